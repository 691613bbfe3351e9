package teams

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
)

// The icons show a counterfoil: a ticket with a perforated stub. They are drawn here so that there is no binary file
// whose origin one has to believe.

// The accent of the product (deep teal), and the paper on it.
var (
	teal  = color.NRGBA{0x0b, 0x5c, 0x63, 0xff}
	paper = color.NRGBA{0xff, 0xff, 0xff, 0xff}
)

const samples = 5 // per pixel and direction, for smooth edges

// draw makes a square picture. paint gives the colour at a point of the unit square; transparent is its zero value.
func draw(size int, paint func(x, y float64) color.NRGBA) ([]byte, error) {
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	for py := range size {
		for px := range size {
			var r, g, b, a float64
			for sy := range samples {
				for sx := range samples {
					c := paint(
						(float64(px)+(float64(sx)+0.5)/samples)/float64(size),
						(float64(py)+(float64(sy)+0.5)/samples)/float64(size))
					w := float64(c.A)
					r, g, b, a = r+float64(c.R)*w, g+float64(c.G)*w, b+float64(c.B)*w, a+w
				}
			}
			if a > 0 {
				img.SetNRGBA(px, py, color.NRGBA{
					uint8(math.Round(r / a)), uint8(math.Round(g / a)), uint8(math.Round(b / a)),
					uint8(math.Round(a / (samples * samples))),
				})
			}
		}
	}
	var b bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img)
	return b.Bytes(), err
}

// A ticket centred at the origin: half width and height, corner radius, where the perforation runs, and the radius of
// the notches at its ends.
const (
	halfW, halfH = 0.34, 0.215
	corner       = 0.045
	tear         = -0.13
	notch        = 0.05
)

// ticket is the signed distance to the edge of the ticket, negative inside.
func ticket(x, y float64) float64 {
	qx, qy := math.Abs(x)-halfW+corner, math.Abs(y)-halfH+corner
	box := math.Hypot(max(qx, 0), max(qy, 0)) + min(max(qx, qy), 0) - corner
	return max(box, notch-math.Hypot(x-tear, math.Abs(y)-halfH))
}

// colorIcon is the 192×192 icon: a white ticket on teal, the stub a little apart from it, with two written lines.
func colorIcon() ([]byte, error) {
	sin, cos := math.Sincos(-12 * math.Pi / 180)
	return draw(192, func(px, py float64) color.NRGBA {
		x, y := px-0.5, py-0.5
		x, y = x*cos-y*sin, x*sin+y*cos
		if ticket(x, y) > 0 {
			return teal
		}
		// The perforation: round holes along the tear.
		const pitch = 0.066
		if math.Hypot(x-tear, y-math.Round(y/pitch)*pitch) < 0.016 {
			return teal
		}
		for _, l := range []struct{ y, from, to float64 }{{-0.075, -0.04, 0.25}, {0, -0.04, 0.25}, {0.075, -0.04, 0.12}} {
			if distanceToLine(x, y, l.y, l.from, l.to) < 0.018 {
				return teal
			}
		}
		return paper
	})
}

// outlineIcon is the 32×32 icon: white lines on nothing.
func outlineIcon() ([]byte, error) {
	const grow = 1.3 // the small icon fills more of its square
	return draw(32, func(px, py float64) color.NRGBA {
		x, y := (px-0.5)/grow, (py-0.5)/grow
		const pitch = 0.096
		switch d := ticket(x, y); {
		case d > 0:
		case d > -0.05:
			return paper
		case math.Hypot(x-tear, y-math.Round(y/pitch)*pitch) < 0.026 && d < -0.07:
			return paper
		case distanceToLine(x, y, -0.05, 0.02, 0.2) < 0.022, distanceToLine(x, y, 0.05, 0.02, 0.12) < 0.022:
			return paper
		}
		return color.NRGBA{}
	})
}

func distanceToLine(x, y, at, from, to float64) float64 {
	return math.Hypot(x-min(max(x, from), to), y-at)
}
