"""Object storage behind one interface (`base.Store`), implemented by a local folder and by an S3 bucket."""
