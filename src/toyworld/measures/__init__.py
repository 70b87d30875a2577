"""What can be measured of a video of this world without weights from outside."""
