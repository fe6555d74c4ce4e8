"""What the Google platforms share: credentials, HTTP transport, labels, machine catalogs, image registries."""
