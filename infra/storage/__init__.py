"""Object storage behind one interface: local folders and S3."""
