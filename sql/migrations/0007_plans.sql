-- A bundle is known by the plan whose file it is in, so that one that leaves the file leaves the shop.
SET search_path = bridge, public;

ALTER TABLE bundle ADD COLUMN plan_id uuid REFERENCES plan;
