"""Ray Serve: the router, the deployments behind it, and the page."""
