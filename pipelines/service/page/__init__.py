"""The search page: HTML, a style sheet and two ES modules without a build step, sent by the service at `/`."""
