"""Where flows are kept: Redis or Valkey. The only importer of redis; one short method per script."""
