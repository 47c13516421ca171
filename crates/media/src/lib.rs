//! One media leg: classify, ICE-lite, DTLS, SRTP, RTP and RTCP, statistics, audio
