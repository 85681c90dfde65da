"""What people look at: pictures of groups."""
