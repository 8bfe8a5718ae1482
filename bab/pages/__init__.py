"""What commands leave in a folder, as one page of HTML."""
