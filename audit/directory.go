package audit

import (
	"io/fs"
	"os"
)

// Files returns the files of the export in the directory path. It is [os.DirFS] that a verification reads faster.
func Files(path string) fs.FS { return directory{os.DirFS(path), path} }

type directory struct {
	fs.FS
	path string
}

// Stat implements [fs.StatFS]: it does not open a file, which would wait if that is a pipe.
func (d directory) Stat(name string) (fs.FileInfo, error) { return fs.Stat(d.FS, name) }
