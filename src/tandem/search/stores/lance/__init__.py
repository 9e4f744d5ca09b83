"""A store that lives in a bucket: LanceDB tables in object storage, or in a folder."""
