"""HTTP around the router: middleware, errors, bodies of requests, routes."""
