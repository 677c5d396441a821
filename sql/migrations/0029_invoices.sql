-- Invoices between companies: billing details, numbers without a gap, documents, payments.
SET search_path = bridge, public;

ALTER TABLE transfer
    DROP CONSTRAINT transfer_kind_check,
    ADD CONSTRAINT transfer_kind_check CHECK (kind IN ('call', 'top_up', 'purchase', 'usage', 'referral', 'refund', 'correction',
                                                       'exchange', 'reversal', 'rebooking', 'settlement', 'payment', 'invoice'));

-- Refuse what no state of the books could make right.
CREATE OR REPLACE FUNCTION transfer_check_v1(
    p_kind text, p_key text, p_author text, p_note text, p_reverses uuid, p_accounts uuid[], p_amounts bigint[],
    p_currencies text[], p_value_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    problem text;
    off record;
BEGIN
    problem := CASE
        WHEN coalesce(p_key, '') = '' OR length(p_key) > 200 THEN 'a booking needs a key of 1 to 200 characters'
        WHEN p_key ~ '[[:cntrl:]]' OR p_author ~ '[[:cntrl:]]' OR p_note ~ '[[:cntrl:]]' THEN
            'key, author and note are one line of text each, without control characters'
        WHEN p_author IS NULL OR p_note IS NULL OR length(p_author) > 200 OR length(p_note) > 1000 THEN
            'author and note are text of at most 200 and 1000 characters'
        WHEN p_kind IN ('correction', 'reversal') AND (btrim(p_author) = '' OR btrim(p_note) = '') THEN
            format('a %s needs an author and a reason', p_kind)
        WHEN p_kind IN ('settlement', 'payment', 'invoice') AND btrim(p_author) = '' THEN format('a %s needs an author', p_kind)
        WHEN p_kind IS NULL OR p_kind NOT IN ('top_up', 'purchase', 'usage', 'referral', 'refund', 'correction', 'exchange', 'reversal',
                                              'rebooking', 'settlement', 'payment', 'invoice') THEN
            format('a booking of the kind %L is not made here', left(p_kind, 40))
        WHEN (p_kind IN ('reversal', 'refund')) <> (p_reverses IS NOT NULL) THEN
            'a reversal and a refund name the transfer they take back, and no other booking does'
        WHEN NOT isfinite(p_value_at) THEN 'a booking has an instant'
        WHEN p_accounts IS NULL OR cardinality(p_accounts) NOT BETWEEN 2 AND 1000
          OR cardinality(p_amounts) IS DISTINCT FROM cardinality(p_accounts)
          OR cardinality(p_currencies) IS DISTINCT FROM cardinality(p_accounts) THEN
            'a booking has 2 to 1000 entries, each with account, amount and currency'
        WHEN EXISTS (SELECT 1 FROM unnest(p_amounts) m WHERE m IS NULL OR m = 0 OR m NOT BETWEEN -(1e18) AND 1e18)
            THEN 'the amount of an entry is not zero, and at most 10^12 units of its currency'
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '%', problem USING ERRCODE = 'BR003';
    END IF;
    SELECT e.currency, sum(e.amount_micro) AS total INTO off FROM unnest(p_amounts, p_currencies) e (amount_micro, currency)
     GROUP BY e.currency HAVING sum(e.amount_micro) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the booking does not sum to zero: % micro %', off.total, off.currency USING ERRCODE = 'BR001';
    END IF;
END $$;

-- ---------------------------------------------------------------- invoices between companies

-- Who a partner is on an invoice, and how it is to be invoiced. Words of the law and of EN 16931.
CREATE TABLE partner_billing (
    partner_id      uuid PRIMARY KEY REFERENCES partner,
    legal_name      text NOT NULL CHECK (length(legal_name) BETWEEN 1 AND 100),
    street          text NOT NULL DEFAULT '' CHECK (length(street) <= 100),
    postcode        text NOT NULL DEFAULT '' CHECK (length(postcode) <= 20),
    city            text NOT NULL DEFAULT '' CHECK (length(city) <= 60),
    country         text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    vat_id          text NOT NULL DEFAULT '' CHECK (length(vat_id) <= 20),
    tax_number      text NOT NULL DEFAULT '' CHECK (length(tax_number) <= 30),
    registration    text NOT NULL DEFAULT '' CHECK (length(registration) <= 60),
    contact         text NOT NULL DEFAULT '' CHECK (length(contact) <= 100),
    phone           text NOT NULL DEFAULT '' CHECK (length(phone) <= 30),
    email           text NOT NULL DEFAULT '' CHECK (length(email) <= 100),
    endpoint        text NOT NULL DEFAULT '' CHECK (length(endpoint) <= 100),     -- its electronic address; empty: e-mail
    endpoint_scheme text NOT NULL DEFAULT 'EM' CHECK (endpoint_scheme ~ '^[0-9A-Z]{2,4}$'),
    buyer_reference text NOT NULL DEFAULT '' CHECK (length(buyer_reference) <= 100),
    iban            text NOT NULL DEFAULT '' CHECK (iban ~ '^([A-Z]{2}[0-9]{2}[A-Z0-9]{11,30})?$'),
    bic             text NOT NULL DEFAULT '' CHECK (length(bic) <= 11),
    reseller        boolean NOT NULL DEFAULT false,                    -- sells telecommunication on: § 13b Abs. 5 Satz 6 UStG
    self_billing    boolean NOT NULL DEFAULT false,                    -- it agreed that we write its invoices to us
    payment_days    integer CHECK (payment_days BETWEEN 0 AND 365),    -- NULL: invoices.due_days
    language        text NOT NULL DEFAULT 'de' CHECK (language IN ('de', 'en')),
    edition         integer NOT NULL DEFAULT 1,
    changed_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How many numbers of a year are given out. The row is locked until its transaction ends, so that none is lost or given twice.
CREATE TABLE invoice_series (
    prefix          text NOT NULL,
    year            integer NOT NULL CHECK (year BETWEEN 2000 AND 2999),
    last_no         bigint NOT NULL CHECK (last_no > 0),
    PRIMARY KEY (prefix, year)
);
CREATE FUNCTION invoice_next_v1(p_prefix text, p_year integer) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO invoice_series AS s (prefix, year, last_no) VALUES (p_prefix, p_year, 1)
    ON CONFLICT (prefix, year) DO UPDATE SET last_no = s.last_no + 1 RETURNING s.last_no
$$;
CREATE FUNCTION invoice_series_grows_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.prefix <> OLD.prefix OR NEW.year <> OLD.year OR NEW.last_no <> OLD.last_no + 1 THEN
        RAISE EXCEPTION 'numbers of invoices are given one by one' USING ERRCODE = 'BR002';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoice_series_grows BEFORE UPDATE ON invoice_series FOR EACH ROW EXECUTE FUNCTION invoice_series_grows_v1();
CREATE TRIGGER invoice_series_stays BEFORE DELETE ON invoice_series FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_series_no_truncate BEFORE TRUNCATE ON invoice_series FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- A document. Until it is validated it is a draft without a number; from then on only what becomes of it changes.
-- 380: an invoice, 389: one that we write for the partner (self-billed), 381: a credit note of either.
CREATE TABLE invoice (
    invoice_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL REFERENCES partner,
    statement_id    uuid NOT NULL REFERENCES statement,                -- what it is made of; of a credit note, its invoice is
    type            text NOT NULL CHECK (type IN ('380', '381', '389')),
    self_billed     boolean NOT NULL,
    credits         uuid REFERENCES invoice,                           -- what a credit note takes back; NULL: of earlier months
    state           text NOT NULL DEFAULT 'new'
                    CHECK (state IN ('new', 'validated', 'sent', 'partiallySettled', 'settled', 'onHold')),
    held_state      text CHECK (held_state IN ('new', 'validated', 'sent', 'partiallySettled')),  -- before it was put on hold
    prefix          text,
    year            integer,
    series_no       bigint CHECK (series_no > 0),
    number          text UNIQUE,
    issued_on       date,
    due_on          date,
    from_on         date NOT NULL,
    until_on        date NOT NULL CHECK (until_on >= from_on),
    currency        currency_code NOT NULL,
    net_cents       bigint NOT NULL,
    tax_cents       bigint NOT NULL,
    gross_cents     bigint NOT NULL CHECK (gross_cents = net_cents + tax_cents),
    rounding_micro  bigint NOT NULL,                                   -- cents of the net less the micro-units they stand for
    paid_cents      bigint NOT NULL DEFAULT 0,                         -- payments and credits
    content         jsonb NOT NULL,                                    -- all that the document says
    transfer_id     uuid,                                              -- its tax, and of a credit note its net, too; NULL: neither
    author          text NOT NULL CHECK (author <> ''),
    note            text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    validated_at    timestamptz,
    sent_at         timestamptz,
    settled_at      timestamptz,
    CHECK (type = '381' OR credits IS NULL),
    CHECK (type = '381' OR self_billed = (type = '389')),
    CHECK ((state = 'onHold') = (held_state IS NOT NULL)),
    CHECK ((coalesce(held_state, state) = 'new') = (number IS NULL)),
    CHECK (num_nulls(prefix, year, series_no, number, issued_on, due_on, validated_at) IN (0, 7)),
    CHECK (paid_cents BETWEEN 0 AND gross_cents),
    UNIQUE (prefix, year, series_no)
);
CREATE UNIQUE INDEX invoice_of_statement ON invoice (statement_id, self_billed) WHERE credits IS NULL;
CREATE INDEX invoice_partner ON invoice (partner_id, invoice_id NULLS FIRST);
CREATE INDEX invoice_credits ON invoice (credits) WHERE credits IS NOT NULL;

CREATE TABLE invoice_line (
    invoice_id      uuid NOT NULL REFERENCES invoice ON DELETE CASCADE,
    line_no         smallint NOT NULL,
    kind            text NOT NULL,                                     -- of the statement's line
    title           text NOT NULL,
    quantity_micro  bigint NOT NULL,
    unit            text NOT NULL,
    price_micro     bigint NOT NULL CHECK (price_micro >= 0),
    per_micro       bigint NOT NULL CHECK (per_micro > 0),
    net_cents       bigint NOT NULL,
    amount_micro    bigint NOT NULL,                                   -- before it was rounded
    category        text NOT NULL CHECK (category IN ('S', 'AE', 'O')),
    vat_hundredths  integer NOT NULL CHECK (vat_hundredths BETWEEN 0 AND 10000),
    source_no       integer,                                           -- of the statement's line
    PRIMARY KEY (invoice_id, line_no),
    CHECK (abs(net_cents * 10000 - amount_micro) <= 5000)
);

-- What was sent, byte for byte.
CREATE TABLE invoice_document (
    invoice_id      uuid NOT NULL REFERENCES invoice,
    kind            text NOT NULL CHECK (kind IN ('xml', 'pdf')),
    content         bytea NOT NULL,
    sha256          bytea NOT NULL,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (invoice_id, kind),
    CHECK (sha256 = sha256(content))
);

-- What settles an invoice: money, or a credit note, which is settled by the same amount.
CREATE TABLE invoice_payment (
    payment_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    invoice_id      uuid NOT NULL REFERENCES invoice,
    kind            text NOT NULL CHECK (kind IN ('payment', 'credit')),
    amount_cents    bigint NOT NULL CHECK (amount_cents > 0),
    paid_on         date NOT NULL,
    transfer_id     uuid,
    other_id        uuid REFERENCES invoice,                           -- of a credit, the other of the two
    key             text NOT NULL UNIQUE,
    note            text NOT NULL DEFAULT '',
    author          text NOT NULL,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind = 'payment') = (transfer_id IS NOT NULL)),
    CHECK ((kind = 'credit') = (other_id IS NOT NULL))
);
CREATE INDEX invoice_payment_invoice ON invoice_payment (invoice_id, payment_id);

-- What has a number stays as it is. Changed are its state, what is paid of it, and when; each change is an edition.
CREATE FUNCTION invoice_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.number IS NOT NULL THEN
            RAISE EXCEPTION 'invoice % has a number: write a credit note instead', OLD.number USING ERRCODE = 'BR002';
        END IF;
        RETURN OLD;
    END IF;
    IF OLD.number IS NOT NULL AND to_jsonb(NEW) - '{state,held_state,paid_cents,edition,sent_at,settled_at}'::text[]
                               <> to_jsonb(OLD) - '{state,held_state,paid_cents,edition,sent_at,settled_at}'::text[] THEN
        RAISE EXCEPTION 'invoice % has a number: write a credit note instead', OLD.number USING ERRCODE = 'BR002';
    END IF;
    IF (NEW.invoice_id, NEW.partner_id, NEW.type, NEW.self_billed) IS DISTINCT FROM (OLD.invoice_id, OLD.partner_id, OLD.type, OLD.self_billed)
       OR (OLD.sent_at IS NOT NULL AND NEW.sent_at IS DISTINCT FROM OLD.sent_at) OR NEW.paid_cents < OLD.paid_cents THEN
        RAISE EXCEPTION 'what an invoice is never changes' USING ERRCODE = 'BR002';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoice_stays BEFORE UPDATE OR DELETE ON invoice FOR EACH ROW EXECUTE FUNCTION invoice_stays_v1();
CREATE TRIGGER invoice_no_truncate BEFORE TRUNCATE ON invoice FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

CREATE FUNCTION invoice_line_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' OR EXISTS (SELECT FROM invoice i WHERE i.invoice_id = coalesce(NEW.invoice_id, OLD.invoice_id) AND i.number IS NOT NULL) THEN
        RAISE EXCEPTION 'lines of an invoice stay as they are' USING ERRCODE = 'BR002';
    END IF;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER invoice_line_stays BEFORE INSERT OR UPDATE OR DELETE ON invoice_line FOR EACH ROW EXECUTE FUNCTION invoice_line_stays_v1();
CREATE TRIGGER invoice_line_no_truncate BEFORE TRUNCATE ON invoice_line FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_document_insert_only BEFORE UPDATE OR DELETE ON invoice_document FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_document_no_truncate BEFORE TRUNCATE ON invoice_document FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_payment_insert_only BEFORE UPDATE OR DELETE ON invoice_payment FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_payment_no_truncate BEFORE TRUNCATE ON invoice_payment FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- Told to whoever listens, from its number on.
CREATE FUNCTION invoice_told_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(NEW.partner_id, 'invoice.changed', NEW.invoice_id, NEW.edition, jsonb_build_object(
        'invoice_id', told_id_v1('inv', NEW.invoice_id), 'number', NEW.number, 'type', NEW.type, 'state', NEW.state,
        'currency', NEW.currency, 'gross', told_money_v1(NEW.gross_cents * 10000), 'paid', told_money_v1(NEW.paid_cents * 10000),
        'due_on', NEW.due_on));
    RETURN NULL;
END $$;
CREATE TRIGGER invoice_told AFTER UPDATE ON invoice FOR EACH ROW
    WHEN (NEW.number IS NOT NULL AND (NEW.state <> OLD.state OR NEW.paid_cents <> OLD.paid_cents)) EXECUTE FUNCTION invoice_told_v1();

-- What is invoiced is paid by its invoices, so that nothing is paid twice.
CREATE FUNCTION statement_payment_or_invoice_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    billed text;
BEGIN
    SELECT i.number INTO billed FROM invoice i JOIN statement s USING (statement_id)
     WHERE i.statement_id = NEW.statement_id AND i.credits IS NULL AND i.number IS NOT NULL AND i.self_billed = (s.total_micro > 0);
    IF FOUND THEN
        RAISE EXCEPTION 'The statement is invoiced: book the payment of invoice %.', billed USING ERRCODE = 'BR004';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER statement_payment_or_invoice BEFORE INSERT ON statement_payment
    FOR EACH ROW EXECUTE FUNCTION statement_payment_or_invoice_v1();

-- A partner reads its details, and its documents from their number on; not what rounding and bookings tell of our books.
GRANT SELECT ON partner_billing, invoice_line, invoice_document TO callbridge_partner;
GRANT SELECT (invoice_id, partner_id, statement_id, type, self_billed, credits, state, number, issued_on, due_on, from_on, until_on,
              currency, net_cents, tax_cents, gross_cents, paid_cents, content, edition, created_at, validated_at, sent_at, settled_at)
    ON invoice TO callbridge_partner;
GRANT SELECT (payment_id, invoice_id, kind, amount_cents, paid_on, other_id, made_at) ON invoice_payment TO callbridge_partner;
ALTER TABLE partner_billing ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_series ENABLE ROW LEVEL SECURITY;                  -- and no policy: operators' alone
ALTER TABLE invoice ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_line ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_document ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_payment ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON partner_billing TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON invoice TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()) AND number IS NOT NULL);
CREATE POLICY own ON invoice_line TO callbridge_partner
    USING (EXISTS (SELECT FROM invoice i WHERE i.invoice_id = invoice_line.invoice_id));
CREATE POLICY own ON invoice_document TO callbridge_partner
    USING (EXISTS (SELECT FROM invoice i WHERE i.invoice_id = invoice_document.invoice_id));
CREATE POLICY own ON invoice_payment TO callbridge_partner
    USING (EXISTS (SELECT FROM invoice i WHERE i.invoice_id = invoice_payment.invoice_id));
