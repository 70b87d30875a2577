"""`motive validate`: is the attribution right? Four tests of it, on the clips that the pipeline has made."""
