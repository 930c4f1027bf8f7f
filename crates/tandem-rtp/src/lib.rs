//! RTP, RTCP, telephone-event and the RTP leg as pure machines.
