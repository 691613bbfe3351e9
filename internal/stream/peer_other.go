//go:build !unix

package stream

import "net"

// peerGone cannot tell here; a failing write will.
func peerGone(net.Conn) bool { return false }
