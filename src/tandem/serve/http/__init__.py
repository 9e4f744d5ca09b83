"""HTTP around the routes: connections, guarding, keys, hosts, bodies, problem documents, the OpenAPI document."""
