package stream_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"counterfoil/internal/stream"
)

// FuzzAppendFrame holds that whatever people write, a frame is read back as the one event it was made from: text cannot
// end a frame, start another, or move the reader's position.
func FuzzAppendFrame(f *testing.F) {
	f.Add(int64(1), "hello")
	f.Add(int64(0), "a\n\nid: 99\nevent: closed\ndata: {}\n\n")
	f.Add(int64(7), "\r\n\u2028\u2029\x00\xff")
	f.Fuzz(func(t *testing.T, id int64, text string) {
		data, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		frame := stream.AppendFrame([]byte(":\n\n"), id, "message", data)
		frame = bytes.TrimPrefix(frame, []byte(":\n\n"))
		if n := bytes.Count(frame, []byte("\n\n")); n != 1 || !bytes.HasSuffix(frame, []byte("\n\n")) || bytes.ContainsRune(frame, '\r') {
			t.Fatalf("%q is not one frame", frame)
		}
		fields := map[string]string{}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(frame), "\n\n"), "\n") {
			name, value, ok := strings.Cut(line, ": ")
			if _, twice := fields[name]; !ok || twice {
				t.Fatalf("%q has the line %q", frame, line)
			}
			fields[name] = value
		}
		wantID := ""
		if id != 0 {
			wantID = strconv.FormatInt(id, 10)
		}
		if fields["event"] != "message" || fields["data"] != string(data) || fields["id"] != wantID {
			t.Fatalf("%q was read back as %v", frame, fields)
		}
	})
}
