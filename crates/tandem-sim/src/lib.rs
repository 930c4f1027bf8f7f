//! Virtual clock, lossy network, scripted caller and model, fake model servers on loopback.
