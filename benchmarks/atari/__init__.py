"""Atari games: the protocol, the emulator, and the policies that play them."""
