module pion

require (
	github.com/pion/ice/v2 v2.3.1
	github.com/pion/logging v0.2.2
	github.com/pion/transport/v2 v2.0.2
	github.com/pion/webrtc/v3 v3.1.56
)
