"""The store on a Milvus or Zilliz server, or in a milvus-lite file: the verbs, filters and answers of the local one."""
