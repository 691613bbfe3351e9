package config

import "runtime"

// heapReserve is bounded, so that ten thousand visitors who only wait cost little more than they hold.
const heapReserve = 32 << 20

// HoldHeap lets the heap grow by so much more before it is collected, until release is called. A question to the policy
// allocates much and keeps nothing, and what lives beside it is small, so that otherwise the collector takes a quarter of a
// disclosure's time. The reserve counts as living but is never touched: it takes address space and no memory.
func HoldHeap() (release func()) {
	reserve := make([]byte, heapReserve)
	return func() { runtime.KeepAlive(reserve) }
}
