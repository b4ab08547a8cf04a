"""Networks over texts that are not recurrent."""
