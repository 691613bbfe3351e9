//go:build !unix

package audit

func (d directory) readFile(name string, limit int, buf []byte) ([]byte, error) {
	return readFile(d.FS, name, limit, buf)
}
