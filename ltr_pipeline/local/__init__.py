"""Programs on this machine: start them in the background, know them again, stop them; and the ports they listen on."""
