module peer

require github.com/pion/webrtc/v3 v3.1.56
