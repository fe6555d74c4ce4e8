-- The tables that caliban 0.4.2 makes on PostgreSQL, as `pg_dump --schema-only` shows them.
CREATE TYPE jobstatus AS ENUM ('SUBMITTED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'STOPPED', 'UNKNOWN');
CREATE TYPE platform AS ENUM ('CAIP', 'GKE', 'LOCAL', 'TEST');
CREATE TABLE container_specs (
    id serial PRIMARY KEY, "user" character varying, spec json, created timestamp with time zone NOT NULL
);
CREATE TABLE experiment_groups (
    id serial PRIMARY KEY, name character varying, created timestamp with time zone NOT NULL, "user" character varying
);
CREATE TABLE experiments (
    id serial PRIMARY KEY, created timestamp with time zone NOT NULL, args json, kwargs json,
    container_spec_id integer REFERENCES container_specs(id), xgroup_id integer REFERENCES experiment_groups(id)
);
CREATE TABLE job_specs (
    id serial PRIMARY KEY, created timestamp with time zone NOT NULL, spec json NOT NULL, platform platform NOT NULL,
    experiment_id integer REFERENCES experiments(id)
);
CREATE TABLE jobs (
    id serial PRIMARY KEY, created timestamp with time zone NOT NULL, job_spec_id integer REFERENCES job_specs(id),
    experiment_id integer REFERENCES experiments(id), container character varying NOT NULL, status jobstatus,
    details json, "user" character varying
);
