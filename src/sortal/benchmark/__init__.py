"""Every artifact of a bundle on every engine that opens it: size, speed, memory, accuracy. The story is in `study`."""
