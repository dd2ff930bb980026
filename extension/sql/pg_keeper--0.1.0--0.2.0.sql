-- The objects of 0.2.0 are those of 0.1.0.
\echo Use "ALTER EXTENSION pg_keeper UPDATE TO '0.2.0'" to load this file. \quit
