-- The number of the migration that a version of OpenSoul must know to use this schema. A migration
-- that removes what earlier versions use raises it.
CREATE TABLE schema_floor (number integer NOT NULL);
