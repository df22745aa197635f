"""Services, backends and their health."""
