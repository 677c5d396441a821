-- Invoices with partners. What is another's, and drafts, are kept from partners by row-level security.

-- name: billing^
SELECT b.partner_id, b.legal_name, b.street, b.postcode, b.city, b.country, b.vat_id, b.tax_number, b.registration, b.contact, b.phone,
       b.email, b.endpoint, b.endpoint_scheme, b.buyer_reference, b.iban, b.bic, b.reseller, b.self_billing, b.payment_days, b.language,
       b.edition, b.changed_at
  FROM partner_billing b WHERE b.partner_id = :partner_id;

-- name: add_billing^
-- The first details of a partner; nothing where it has some.
INSERT INTO partner_billing (partner_id, legal_name, street, postcode, city, country, vat_id, tax_number, registration, contact, phone,
                             email, endpoint, endpoint_scheme, buyer_reference, iban, bic, reseller, self_billing, payment_days, language)
SELECT :partner_id, n.legal_name, n.street, n.postcode, n.city, n.country, n.vat_id, n.tax_number, n.registration, n.contact, n.phone,
       n.email, n.endpoint, n.endpoint_scheme, n.buyer_reference, n.iban, n.bic, n.reseller, n.self_billing, n.payment_days, n.language
  FROM jsonb_to_record(:details::jsonb) AS n (legal_name text, street text, postcode text, city text, country text, vat_id text,
       tax_number text, registration text, contact text, phone text, email text, endpoint text, endpoint_scheme text,
       buyer_reference text, iban text, bic text, reseller boolean, self_billing boolean, payment_days integer, language text)
ON CONFLICT (partner_id) DO NOTHING RETURNING edition;

-- name: change_billing^
UPDATE partner_billing b
   SET legal_name = n.legal_name, street = n.street, postcode = n.postcode, city = n.city, country = n.country, vat_id = n.vat_id,
       tax_number = n.tax_number, registration = n.registration, contact = n.contact, phone = n.phone, email = n.email,
       endpoint = n.endpoint, endpoint_scheme = n.endpoint_scheme, buyer_reference = n.buyer_reference, iban = n.iban, bic = n.bic,
       reseller = n.reseller, self_billing = n.self_billing, payment_days = n.payment_days, language = n.language,
       edition = b.edition + 1, changed_at = clock_timestamp()
  FROM jsonb_to_record(:details::jsonb) AS n (legal_name text, street text, postcode text, city text, country text, vat_id text,
       tax_number text, registration text, contact text, phone text, email text, endpoint text, endpoint_scheme text,
       buyer_reference text, iban text, bic text, reseller boolean, self_billing boolean, payment_days integer, language text)
 WHERE b.partner_id = :partner_id AND b.edition = :edition RETURNING b.edition;

-- ---------------------------------------------------------------- to be read

-- name: invoices
-- Newest first.
SELECT i.invoice_id, i.partner_id, i.statement_id, i.type, i.self_billed, i.credits, i.state, i.number, i.issued_on, i.due_on, i.from_on,
       i.until_on, i.currency, i.net_cents, i.tax_cents, i.gross_cents, i.paid_cents, i.edition, i.created_at, i.validated_at, i.sent_at,
       i.settled_at, p.name AS partner
  FROM invoice i JOIN partner p USING (partner_id)
 WHERE i.invoice_id < :before AND (:state::text IS NULL OR i.state = :state)
   AND (:statement_id::uuid IS NULL OR i.statement_id = :statement_id)
   AND (:number::text IS NULL OR i.number = :number)
 ORDER BY i.invoice_id DESC LIMIT :rows;

-- name: invoices_partner
-- In the order NULLS LAST there is no index but the partner's: others' invoices are not read.
SELECT i.invoice_id, i.partner_id, i.statement_id, i.type, i.self_billed, i.credits, i.state, i.number, i.issued_on, i.due_on, i.from_on,
       i.until_on, i.currency, i.net_cents, i.tax_cents, i.gross_cents, i.paid_cents, i.edition, i.created_at, i.validated_at, i.sent_at,
       i.settled_at, p.name AS partner
  FROM invoice i JOIN partner p USING (partner_id)
 WHERE i.partner_id = :partner_id AND i.invoice_id < :before AND (:state::text IS NULL OR i.state = :state)
   AND (:statement_id::uuid IS NULL OR i.statement_id = :statement_id)
   AND (:number::text IS NULL OR i.number = :number)
 ORDER BY i.invoice_id DESC NULLS LAST LIMIT :rows;

-- name: bills
-- Those that have a number, newest first. In the order NULLS LAST a partner's are found by their own index.
SELECT i.invoice_id, i.partner_id, i.type, i.self_billed, i.state, i.number, i.issued_on, i.due_on, i.from_on, i.until_on, i.currency,
       i.net_cents, i.gross_cents, i.paid_cents, i.validated_at, i.sent_at, i.settled_at
  FROM invoice i
 WHERE i.number IS NOT NULL AND i.invoice_id < :before AND (:partner_id::uuid IS NULL OR i.partner_id = :partner_id)
 ORDER BY i.invoice_id DESC NULLS LAST LIMIT :rows;

-- name: invoice^
SELECT i.invoice_id, i.partner_id, i.statement_id, i.type, i.self_billed, i.credits, i.state, i.number, i.issued_on, i.due_on, i.from_on,
       i.until_on, i.currency, i.net_cents, i.tax_cents, i.gross_cents, i.paid_cents, i.edition, i.created_at, i.validated_at, i.sent_at,
       i.settled_at, p.name AS partner
  FROM invoice i JOIN partner p USING (partner_id) WHERE i.invoice_id = :invoice_id;

-- name: numbered$
SELECT i.invoice_id FROM invoice i WHERE i.number = :number;

-- name: lines
SELECT l.line_no, l.kind, l.title, l.quantity_micro, l.unit, l.price_micro, l.per_micro, l.net_cents, l.amount_micro, l.category,
       l.vat_hundredths, l.source_no
  FROM invoice_line l WHERE l.invoice_id = :invoice_id ORDER BY l.line_no;

-- name: payments
SELECT y.payment_id, y.kind, y.amount_cents, y.paid_on, y.other_id, y.made_at FROM invoice_payment y
 WHERE y.invoice_id = :invoice_id ORDER BY y.payment_id;

-- name: document^
SELECT d.content, d.sha256, i.number FROM invoice_document d JOIN invoice i USING (invoice_id)
 WHERE d.invoice_id = :invoice_id AND d.kind = :kind;

-- ---------------------------------------------------------------- of a statement

-- name: source^
-- A statement, held so that nothing of it is paid or invoiced meanwhile.
SELECT s.statement_id, s.partner_id, s.from_at, s.to_at, s.currency, s.state, s.total_micro, d.name AS deal,
       EXISTS (SELECT FROM statement_payment y WHERE y.statement_id = s.statement_id) AS paid
  FROM statement s JOIN deal d USING (deal_id) WHERE s.statement_id = :statement_id FOR NO KEY UPDATE OF s;

-- name: source_lines
SELECT l.line_no, l.kind, l.of_kind, l.title, l.quantity, l.unit, l.rate_micro, l.amount_micro
  FROM statement_line l WHERE l.statement_id = :statement_id ORDER BY l.line_no;

-- name: of_statement
SELECT i.invoice_id, i.self_billed, i.number FROM invoice i WHERE i.statement_id = :statement_id AND i.credits IS NULL
 ORDER BY i.self_billed;

-- name: approved_of_month
-- Statements of a month that can be invoiced.
SELECT s.statement_id FROM statement s WHERE s.month = :month AND s.state <> 'draft' ORDER BY s.statement_id;

-- ---------------------------------------------------------------- the way of an invoice

-- name: hold^
SELECT i.invoice_id, i.partner_id, i.statement_id, i.type, i.self_billed, i.credits, i.state, i.held_state, i.number, i.currency,
       i.gross_cents, i.paid_cents, i.content, i.edition
  FROM invoice i WHERE i.invoice_id = :invoice_id FOR NO KEY UPDATE;

-- name: add$
INSERT INTO invoice (partner_id, statement_id, type, self_billed, credits, from_on, until_on, currency, net_cents, tax_cents, gross_cents,
                     rounding_micro, content, author, note)
VALUES (:partner_id, :statement_id, :type, :self_billed, :credits, :from_on, :until_on, :currency, :net_cents, :tax_cents, :gross_cents,
        :rounding_micro, :content, :author, :note)
RETURNING invoice_id;

-- name: add_lines!
INSERT INTO invoice_line (invoice_id, line_no, kind, title, quantity_micro, unit, price_micro, per_micro, net_cents, amount_micro,
                          category, vat_hundredths, source_no)
SELECT :invoice_id, l.line_no, l.kind, l.title, l.quantity_micro, l.unit, l.price_micro, l.per_micro, l.net_cents, l.amount_micro,
       l.category, l.vat_hundredths, l.source_no
  FROM jsonb_to_recordset(:lines::jsonb) AS l (line_no smallint, kind text, title text, quantity_micro bigint, unit text,
       price_micro bigint, per_micro bigint, net_cents bigint, amount_micro bigint, category text, vat_hundredths integer,
       source_no integer);

-- name: forget!
-- A draft, to be made again of what is known now.
DELETE FROM invoice i WHERE i.invoice_id = :invoice_id AND i.number IS NULL;

-- name: next_number$
SELECT invoice_next_v1(:prefix, :year);

-- name: validate!
UPDATE invoice i
   SET state = 'validated', prefix = :prefix, year = :year, series_no = :series_no, number = :number, issued_on = :issued_on,
       due_on = :due_on, content = :content, transfer_id = :transfer_id, validated_at = clock_timestamp(), edition = i.edition + 1
 WHERE i.invoice_id = :invoice_id;

-- name: add_document!
INSERT INTO invoice_document (invoice_id, kind, content, sha256) VALUES (:invoice_id, :kind, :content, sha256(:content));

-- name: move!
UPDATE invoice i
   SET state = :state, held_state = :held_state, edition = i.edition + 1,
       sent_at = CASE WHEN :state::text = 'sent' THEN coalesce(i.sent_at, clock_timestamp()) ELSE i.sent_at END,
       settled_at = CASE WHEN :state::text = 'settled' THEN coalesce(i.settled_at, clock_timestamp()) ELSE i.settled_at END
 WHERE i.invoice_id = :invoice_id;

-- name: payment^
SELECT y.payment_id, y.invoice_id, y.amount_cents, y.paid_on, y.note, y.author FROM invoice_payment y WHERE y.key = :key;

-- name: add_payment!
INSERT INTO invoice_payment (invoice_id, kind, amount_cents, paid_on, transfer_id, other_id, key, note, author)
VALUES (:invoice_id, :kind, :amount_cents, :paid_on, :transfer_id, :other_id, :key, :note, :author);

-- name: paid!
UPDATE invoice i
   SET paid_cents = i.paid_cents + :amount_cents, state = :state, edition = i.edition + 1,
       settled_at = CASE WHEN :state::text = 'settled' THEN coalesce(i.settled_at, clock_timestamp()) ELSE i.settled_at END
 WHERE i.invoice_id = :invoice_id;

-- name: credited
-- What was credited of each line of an invoice.
SELECT l.source_no AS line_no, sum(l.net_cents)::bigint AS net_cents, sum(l.amount_micro)::bigint AS amount_micro
  FROM invoice i JOIN invoice_line l USING (invoice_id) WHERE i.credits = :invoice_id GROUP BY l.source_no;

-- name: note!
-- For the audit log, of what is done at the command line or by a job.
INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote)
VALUES (:partner_id, :actor, :action, :subject, :detail, '', '');

-- ---------------------------------------------------------------- proofs

-- name: audit_numbers
-- Series in which a number is missing, given twice, or not written as it is counted.
WITH counted AS (
    SELECT i.prefix, i.year, count(*) AS numbers, max(i.series_no) AS last_no,
           count(*) FILTER (WHERE i.number <> i.prefix || i.year || '-' || lpad(i.series_no::text, 6, '0')
                               OR i.year <> extract(YEAR FROM i.issued_on)) AS odd
      FROM invoice i WHERE i.number IS NOT NULL GROUP BY i.prefix, i.year
)
SELECT coalesce(s.prefix, g.prefix) AS prefix, coalesce(s.year, g.year) AS year, s.last_no, g.numbers, g.odd
  FROM invoice_series s FULL JOIN counted g ON g.prefix = s.prefix AND g.year = s.year
 WHERE s.last_no IS DISTINCT FROM g.last_no OR g.numbers <> g.last_no OR g.odd <> 0;

-- name: audit_documents
-- Invoices with a number and without both documents, and documents that are not what was made.
SELECT i.invoice_id, i.number, count(d.kind) AS documents, count(*) FILTER (WHERE sha256(d.content) <> d.sha256) AS changed
  FROM invoice i LEFT JOIN invoice_document d USING (invoice_id)
 GROUP BY i.invoice_id
HAVING count(d.kind) <> CASE WHEN i.number IS NULL THEN 0 ELSE 2 END OR count(*) FILTER (WHERE sha256(d.content) <> d.sha256) > 0;

-- name: audit_totals
-- Invoices whose lines do not come to their totals: net, tax rounded once a category and rate, and what rounding did.
WITH taxed AS (
    SELECT l.invoice_id, sum(l.net_cents) AS net_cents, round(sum(l.net_cents) * l.vat_hundredths / 10000.0) AS tax_cents,
           sum(l.net_cents * 10000 - l.amount_micro) AS rounding_micro
      FROM invoice_line l GROUP BY l.invoice_id, l.category, l.vat_hundredths
), sums AS (
    SELECT g.invoice_id, sum(g.net_cents) AS net_cents, sum(g.tax_cents) AS tax_cents, sum(g.rounding_micro) AS rounding_micro
      FROM taxed g GROUP BY g.invoice_id
)
SELECT i.invoice_id, i.number, i.net_cents, i.tax_cents, s.net_cents AS lines_cents, s.tax_cents AS lines_tax_cents
  FROM invoice i LEFT JOIN sums s USING (invoice_id)
 WHERE (i.net_cents, i.tax_cents, i.rounding_micro) IS DISTINCT FROM (s.net_cents, s.tax_cents, s.rounding_micro);

-- name: audit_bookings
-- Invoices whose tax is not what was booked as tax, or whose booking did not move the partner's account by tax and rounding (of a
-- credit note by all of it); and bookings of no invoice.
WITH booked AS (
    SELECT t.transfer_id, coalesce(sum(e.amount_micro) FILTER (WHERE a.kind = 'partner'), 0) AS partner_micro,
           coalesce(sum(e.amount_micro) FILTER (WHERE a.kind = 'system' AND a.name = 'vat ' || e.currency), 0) AS vat_micro
      FROM transfer t JOIN entry e USING (transfer_id) JOIN account a USING (account_id) WHERE t.kind = 'invoice' GROUP BY t.transfer_id
), owed AS (
    SELECT i.invoice_id, i.number, i.transfer_id,
           CASE WHEN i.self_billed = (i.type <> '381') THEN 1 ELSE -1 END
           * (i.tax_cents * 10000 + CASE WHEN i.credits IS NULL THEN i.rounding_micro ELSE i.net_cents * 10000 END) AS partner_micro,
           CASE WHEN i.self_billed = (i.type <> '381') THEN -1 ELSE 1 END * i.tax_cents * 10000 AS vat_micro
      FROM invoice i WHERE i.number IS NOT NULL
)
SELECT o.invoice_id, o.number, b.transfer_id, o.partner_micro, b.partner_micro AS booked_micro, o.vat_micro, b.vat_micro AS booked_vat_micro
  FROM owed o FULL JOIN booked b USING (transfer_id)
 WHERE o.invoice_id IS NULL OR o.partner_micro <> coalesce(b.partner_micro, 0) OR o.vat_micro <> coalesce(b.vat_micro, 0);

-- name: audit_payments
-- Invoices that were not paid as their payments and their state say, credits of one side only, and payments booked otherwise.
WITH paid AS (
    SELECT y.invoice_id, sum(y.amount_cents) AS paid_cents,
           count(*) FILTER (WHERE y.kind = 'payment' AND NOT EXISTS (
               SELECT FROM entry e JOIN account a USING (account_id)
                WHERE e.transfer_id = y.transfer_id AND a.kind = 'partner' AND abs(e.amount_micro) = y.amount_cents * 10000)) AS unbooked,
           count(*) FILTER (WHERE y.kind = 'credit' AND NOT EXISTS (
               SELECT FROM invoice_payment o WHERE o.invoice_id = y.other_id AND o.other_id = y.invoice_id
                                               AND o.amount_cents = y.amount_cents)) AS lone
      FROM invoice_payment y GROUP BY y.invoice_id
)
SELECT i.invoice_id, i.number, i.state, i.gross_cents, i.paid_cents, p.paid_cents AS payments_cents
  FROM invoice i LEFT JOIN paid p USING (invoice_id)
 WHERE i.paid_cents <> coalesce(p.paid_cents, 0) OR p.unbooked > 0 OR p.lone > 0
    OR (i.number IS NOT NULL AND (i.state = 'settled') <> (i.paid_cents = i.gross_cents))
    OR (coalesce(i.held_state, i.state) = 'partiallySettled') <> (i.paid_cents > 0 AND i.paid_cents < i.gross_cents);
