// Package playground tries the product against Microsoft 365 Agents Playground, so that not everything it believes about
// Teams comes from a stand-in of its own. It promises that nothing leaves the machine: the Playground, a browser and the
// service run in a network namespace that has nothing but loopback, with a login server made for the test, and every
// token is checked on both sides.
package playground
