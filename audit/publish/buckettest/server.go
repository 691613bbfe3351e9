// Package buckettest is a service that speaks as much of S3 as publishing needs, and refuses what versions and object lock refuse;
// and the table of what such a service must do, which is held against it and, in the tests with other people's programs, against
// a real one.
package buckettest

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // what S3 calls an ETag
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Target is a service that is tested.
type Target struct {
	Endpoint, Region, KeyID, Secret string
}

// Server is the service. Its fields may be set between requests.
type Server struct {
	Target

	mu      sync.Mutex
	buckets map[string]*bucket
	serial  int
	meddle  func(*http.Request) Fault
	skew    time.Duration
}

// Fault is what becomes of a request.
type Fault int

// What becomes of a request.
const (
	None    Fault = iota
	Refused       // nothing is done, and it is said
	Lost          // it is done, and the answer never comes
	Gone          // nothing is done, and no answer comes
)

type bucket struct {
	locked  bool
	objects map[string][]version // the newest last
}

type version struct {
	id, etag string
	data     []byte
	marker   bool
	until    time.Time
	at       time.Time
}

// Serve starts a service that lasts as long as the test.
func Serve(t testing.TB) *Server {
	t.Helper()
	s := &Server{buckets: make(map[string]*bucket), Target: Target{Region: "us-east-1", KeyID: "key-of-the-test", Secret: "secret-of-the-test"}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.Endpoint = server.URL
	return s
}

// Meddle decides from now on what becomes of each request; nil lets all through.
func (s *Server) Meddle(f func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meddle = f
}

// Skew moves the clock of the service.
func (s *Server) Skew(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = by
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	meddle := s.meddle
	s.mu.Unlock()
	fault := None
	if meddle != nil {
		fault = meddle(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Date", time.Now().Add(s.skew).UTC().Format(http.TimeFormat))
	switch fault {
	case Refused:
		refuse(w, http.StatusForbidden, "AccessDenied")
		return
	case Gone:
		panic(http.ErrAbortHandler)
	case Lost:
		s.answer(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	s.answer(w, r)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	sum := sha256.Sum256(body)
	short := md5.Sum(body) //nolint:gosec // as above
	claimed, claimedShort := r.Header.Get("X-Amz-Content-Sha256"), r.Header.Get("Content-Md5")
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, "IncompleteBody")
		return
	case !s.signed(r):
		refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
		return
	case claimed != "UNSIGNED-PAYLOAD" && claimed != hex.EncodeToString(sum[:]):
		refuse(w, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
		return
	case claimedShort != "" && claimedShort != base64.StdEncoding.EncodeToString(short[:]):
		refuse(w, http.StatusBadRequest, "BadDigest")
		return
	}
	name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	b := s.buckets[name]
	switch {
	case key == "" && r.Method == http.MethodPut:
		s.buckets[name] = &bucket{locked: r.Header.Get("X-Amz-Bucket-Object-Lock-Enabled") == "true", objects: make(map[string][]version)}
	case b == nil:
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case key == "" && query.Has("versioning"):
		status := ""
		if b.locked {
			status = "<Status>Enabled</Status>"
		}
		fmt.Fprintf(w, "<VersioningConfiguration>%s</VersioningConfiguration>", status)
	case key == "" && query.Has("object-lock") && !b.locked:
		refuse(w, http.StatusNotFound, "ObjectLockConfigurationNotFoundError")
	case key == "" && query.Has("object-lock"):
		fmt.Fprint(w, "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>")
	case key == "":
		b.list(w, query)
	case r.Method == http.MethodGet:
		b.get(w, key, query.Get("versionId"))
	case r.Method == http.MethodPut:
		s.put(w, r, b, key, body)
	case r.Method == http.MethodDelete:
		s.remove(w, b, key, query.Get("versionId"))
	default:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
}

// newest is the present version of an object, if it is not deleted.
func (b *bucket) newest(key string) (version, bool) {
	all := b.objects[key]
	if len(all) == 0 || all[len(all)-1].marker {
		return version{}, false
	}
	return all[len(all)-1], true
}

func (b *bucket) get(w http.ResponseWriter, key, id string) {
	v, there := b.newest(key)
	if id != "" {
		i := slices.IndexFunc(b.objects[key], func(v version) bool { return v.id == id })
		if there = i >= 0; there {
			v = b.objects[key][i]
		}
	}
	if !there {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", `"`+v.etag+`"`)
	w.Header().Set("Last-Modified", v.at.UTC().Format(http.TimeFormat))
	w.Header().Set("X-Amz-Version-Id", v.id)
	_, _ = w.Write(v.data)
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, b *bucket, key string, body []byte) {
	now, there := b.newest(key)
	match := strings.Trim(r.Header.Get("If-Match"), `"`)
	if r.Header.Get("If-None-Match") == "*" && there || match != "" && (!there || match != now.etag) {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	etag := md5.Sum(body) //nolint:gosec // as above
	v := version{etag: hex.EncodeToString(etag[:]), data: body}
	if mode := r.Header.Get("X-Amz-Object-Lock-Mode"); mode != "" {
		var err error
		v.until, err = time.Parse(time.RFC3339, r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil || !b.locked || mode != "COMPLIANCE" && mode != "GOVERNANCE" || !v.until.After(time.Now().Add(s.skew)) {
			refuse(w, http.StatusBadRequest, "InvalidArgument")
			return
		}
	}
	s.add(b, key, &v)
	w.Header().Set("ETag", `"`+v.etag+`"`)
	w.Header().Set("X-Amz-Version-Id", v.id)
}

func (s *Server) add(b *bucket, key string, v *version) {
	s.serial++
	v.id, v.at = fmt.Sprintf("v%06d", s.serial), time.Now()
	if !b.locked {
		b.objects[key] = nil
	}
	b.objects[key] = append(b.objects[key], *v)
}

func (s *Server) remove(w http.ResponseWriter, b *bucket, key, id string) {
	if id == "" {
		s.add(b, key, &version{marker: true})
		w.WriteHeader(http.StatusNoContent)
		return
	}
	i := slices.IndexFunc(b.objects[key], func(v version) bool { return v.id == id })
	switch {
	case i < 0:
	case b.objects[key][i].until.After(time.Now().Add(s.skew)):
		refuse(w, http.StatusForbidden, "AccessDenied")
		return
	default:
		b.objects[key] = slices.Delete(b.objects[key], i, i+1)
	}
	w.WriteHeader(http.StatusNoContent)
}

type listed struct {
	Key          string
	VersionID    string `xml:"VersionId,omitempty"`
	IsLatest     bool
	LastModified string
	ETag         string `xml:",omitempty"`
	Size         int
}

// list gives what is in a bucket, by key, of each the newest version first.
func (b *bucket) list(w http.ResponseWriter, query url.Values) {
	type result struct {
		XMLName             xml.Name
		IsTruncated         bool
		NextKeyMarker       string   `xml:",omitempty"`
		NextVersionIDMarker string   `xml:"NextVersionIdMarker,omitempty"`
		Contents            []listed // of what is there now
		Version             []listed
		DeleteMarker        []listed
	}
	var out result
	out.XMLName.Local = "ListVersionsResult"
	versions := query.Has("versions")
	if !versions {
		out.XMLName.Local = "ListBucketResult"
	}
	atOnce := 3 // so that a page ends within what is asked for
	n, past := 0, query.Get("version-id-marker") == ""
	keys := make([]string, 0, len(b.objects))
	for key := range b.objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if !strings.HasPrefix(key, query.Get("prefix")) || versions && key < query.Get("key-marker") {
			continue
		}
		if v, there := b.newest(key); there && !versions {
			out.Contents = append(out.Contents, listed{Key: key, LastModified: v.at.UTC().Format(time.RFC3339), ETag: v.etag, Size: len(v.data)})
		}
		for i := len(b.objects[key]) - 1; versions && i >= 0; i-- {
			v := b.objects[key][i]
			if !past {
				past = v.id == query.Get("version-id-marker")
				continue
			}
			if n == atOnce {
				out.IsTruncated = true
				_ = xml.NewEncoder(w).Encode(out)
				return
			}
			n++
			out.NextKeyMarker, out.NextVersionIDMarker = key, v.id
			l := listed{Key: key, VersionID: v.id, IsLatest: i == len(b.objects[key])-1, LastModified: v.at.UTC().Format(time.RFC3339Nano), ETag: v.etag, Size: len(v.data)}
			if v.marker {
				out.DeleteMarker = append(out.DeleteMarker, l)
			} else {
				out.Version = append(out.Version, l)
			}
		}
	}
	_ = xml.NewEncoder(w).Encode(out)
}

// signed checks the signature of a request (AWS Signature Version 4).
func (s *Server) signed(r *http.Request) bool {
	var credential, headers, signature string
	for part := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			headers = value
		case "Signature":
			signature = value
		}
	}
	scope, ok := strings.CutPrefix(credential, s.KeyID+"/")
	day, rest, _ := strings.Cut(scope, "/")
	if !ok || rest != s.Region+"/s3/aws4_request" {
		return false
	}
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n%s\n%s\n", r.Method, r.URL.EscapedPath(), strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"))
	for name := range strings.SplitSeq(headers, ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		fmt.Fprintf(&canonical, "%s:%s\n", name, strings.TrimSpace(value))
	}
	fmt.Fprintf(&canonical, "\n%s\n%s", headers, r.Header.Get("X-Amz-Content-Sha256"))
	sum := sha256.Sum256([]byte(canonical.String()))
	key := []byte("AWS4" + s.Secret)
	for _, part := range []string{day, s.Region, "s3", "aws4_request"} {
		key = mac(key, part)
	}
	want := mac(key, "AWS4-HMAC-SHA256\n"+r.Header.Get("X-Amz-Date")+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
	return hmac.Equal([]byte(hex.EncodeToString(want)), []byte(signature))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
