package proxyproto_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/serai-net/serai/connect/wire/proxyproto"
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

func header(source, destination string) proxyproto.Header {
	return proxyproto.Header{Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
}

// v2 is a header of version 2.
func v2(command, family byte, rest string) string {
	b := append([]byte(signature), command, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(rest)))) + rest
}

const (
	four = "\x0a\x00\x00\x01\x0a\x00\x00\x02\x30\x39\x00\x50"
	sha  = "\x03\x00\x04"
)

// summed is a header with a checksum at its end.
func summed(rest string) string {
	b := []byte(v2(0x21, 0x11, rest+sha+"\x00\x00\x00\x00"))
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return string(b)
}

func good() map[string]proxyproto.Header {
	ten := header("10.0.0.1:12345", "10.0.0.2:80")
	six := header("[2001:db8::1]:1", "[2001:db8::2]:65535")
	unix := strings.Repeat("\x00", 216)
	return map[string]proxyproto.Header{
		"PROXY TCP4 10.0.0.1 10.0.0.2 12345 80\r\n":          ten,
		"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n":     six,
		"PROXY TCP6 ::ffff:10.0.0.1 ::ffff:10.0.0.2 0 0\r\n": header("10.0.0.1:0", "10.0.0.2:0"),
		"PROXY TCP6 :: :: 1 1\r\n":                           header("[::]:1", "[::]:1"),
		"PROXY UNKNOWN\r\n":                                  {},
		"PROXY UNKNOWN ff:: what ever 1\r\n":                 {},
		v2(0x21, 0x11, four):                                 ten,
		v2(0x21, 0x11, four+"\x04\x00\x02zz\x20\x00\x00"):    ten,
		summed(four):                   ten,
		summed(four + "\xea\x00\x01x"): ten,
		v2(0x21, 0x21, string(append(append(six.Source.Addr().AsSlice(), six.Destination.Addr().AsSlice()...), 0, 1, 255, 255))): six,
		v2(0x21, 0x00, ""):     {},
		v2(0x21, 0x00, "what"): {},
		v2(0x21, 0x31, unix):   {},
		v2(0x20, 0x00, ""):     {},
		v2(0x20, 0x11, four):   {},
		v2(0x20, 0x99, "?"):    {},
	}
}

// What follows a header is not touched, however it comes.
func TestRead(t *testing.T) {
	t.Parallel()
	for text, want := range good() {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader,
		} {
			rest := strings.NewReader(text + "what follows")
			got, err := proxyproto.Read(wrap(rest))
			if err != nil || got != want {
				t.Errorf("%s %q: %+v, %v", name, text, got, err)
			}
			if left, _ := io.ReadAll(rest); string(left) != "what follows" {
				t.Errorf("%s %q: %q is left", name, text, left)
			}
			_, present, conn, err := proxyproto.ReadOptional(&reading{Reader: wrap(strings.NewReader(text + "x"))})
			if err != nil || !present {
				t.Errorf("%s %q: present %t, %v", name, text, present, err)
			} else if left, _ := io.ReadAll(conn); string(left) != "x" {
				t.Errorf("%s %q: %q is left", name, text, left)
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	broken := []byte(summed(four))
	broken[20]++
	for _, text := range []string{
		"PROXY TCP4 10.0.0.1 10.0.0.2 12345 80\n----", "PROXY TCP4 10.0.0.1 10.0.0.2 12345\r\n-------",
		"PROXY TCP4 10.0.0.1 10.0.0.2 12345 80 \r\n", "PROXY TCP4 10.0.0.1  10.0.0.2 1 80\r\n", "PROXY  TCP4 10.0.0.1 10.0.0.2 1 80\r\n",
		"PROXY TCP4 10.0.0.1 10.0.0.2 65536 80\r\n", "PROXY TCP4 10.0.0.1 10.0.0.2 01 80\r\n", "PROXY TCP4 10.0.0.1 10.0.0.2 +1 80\r\n",
		"PROXY TCP4 10.0.0.1 10.0.0.2 1 \r\n", "PROXY TCP4 ::1 ::2 1 80\r\n------", "PROXY TCP6 10.0.0.1 10.0.0.2 1 80\r\n",
		"PROXY TCP6 fe80::1%eth0 ::2 1 80\r\n", "PROXY TCP4 10.0.0.01 10.0.0.2 1 80\r\n", "PROXY TCP4 10.0.0.1 example.com 1 80\r\n",
		"PROXY TCP5 10.0.0.1 10.0.0.2 1 80\r\n", "PROXY UDP4 10.0.0.1 10.0.0.2 1 80\r\n", "PROXY UNKNOWNS\r\n-",
		"PROXY UNKNOWN" + strings.Repeat(" ", 200) + "\r\n", "PROXY TCP4 10.0.0.1\r 10.0.0.2 1 80\r\n", "proxy TCP4 10.0.0.1 10.0.0.2 1 80\r\n",
		"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00",
		v2(0x11, 0x11, four), v2(0x22, 0x11, four), v2(0x21, 0x12, four), v2(0x21, 0x41, four), v2(0x21, 0x11, four[:11]),
		v2(0x21, 0x21, four), v2(0x21, 0x31, four), v2(0x21, 0x11, four+"\x01"), v2(0x21, 0x11, four+"\x01\x00\x05abcd"),
		v2(0x21, 0x11, four+"\x03\x00\x03abc"), v2(0x21, 0x11, four+strings.Repeat("\x04\x00\x00", 2000)), string(broken),
	} {
		if got, err := proxyproto.Read(strings.NewReader(text)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	if _, err := proxyproto.Read(strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("nothing: %v", err)
	}
	for text := range good() {
		for n := 1; n < len(text); n++ {
			if _, err := proxyproto.Read(strings.NewReader(text[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%q: %v", text[:n], err)
			}
		}
	}
}

// reading is a connection that can be read.
type reading struct {
	net.Conn
	io.Reader
}

func (r *reading) Read(p []byte) (int, error) { return r.Reader.Read(p) }

// Without a header every byte is there, and not more was waited for than needed.
func TestReadOptional(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"G", "PING\r\n", "PROX", "PROXIES of the world", "\r\n\r\nhello there, server", "\x16\x03\x01"} {
		h, present, conn, err := proxyproto.ReadOptional(&reading{Reader: strings.NewReader(text)})
		if err != nil || present || h.Source.IsValid() {
			t.Errorf("%q: %+v %t %v", text, h, present, err)
			continue
		}
		if b, err := io.ReadAll(conn); err != nil || string(b) != text {
			t.Errorf("%q: %q, %v", text, b, err)
		}
	}
	if _, _, _, err := proxyproto.ReadOptional(&reading{Reader: strings.NewReader("")}); !errors.Is(err, io.EOF) {
		t.Errorf("nothing: %v", err)
	}
	if _, present, _, err := proxyproto.ReadOptional(&reading{Reader: strings.NewReader("PROXY TCP4 x y 1 2\r\n++++++")}); err == nil || !present {
		t.Errorf("a broken header: present %t, %v", present, err)
	}
}

// What is written is read again.
func TestAppend(t *testing.T) {
	t.Parallel()
	mixed := header("10.0.0.1:1", "[2001:db8::2]:2")
	for _, h := range []proxyproto.Header{
		header("10.0.0.1:12345", "10.0.0.2:80"), header("[2001:db8::1]:1", "[2001:db8::2]:2"), mixed,
		{},
		{Source: netip.MustParseAddrPort("10.0.0.1:1")},
	} {
		want := h
		if !h.Destination.IsValid() {
			want = proxyproto.Header{}
		}
		for _, version := range []int{proxyproto.V1, proxyproto.V2} {
			b := h.Append(nil, version)
			got, err := proxyproto.Read(bytes.NewReader(b))
			if err != nil || got != want {
				t.Errorf("version %d of %+v: %q is %+v, %v", version, h, b, got, err)
			}
		}
	}
	zoned := header("[fe80::1%eth0]:1", "[fe80::2%eth0]:2")
	if got := string(zoned.Append(nil, proxyproto.V1)); got != "PROXY TCP6 fe80::1 fe80::2 1 2\r\n" {
		t.Errorf("%q", got)
	}
}

// Whatever is read as a header says the same when it is written, and Read and
// ReadOptional agree.
func FuzzRead(f *testing.F) {
	for text := range good() {
		f.Add([]byte(text + "rest"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rest := bytes.NewReader(b)
		h, err := proxyproto.Read(rest)
		_, present, conn, optional := proxyproto.ReadOptional(&reading{Reader: bytes.NewReader(b)})
		if err == nil && (!present || optional != nil) {
			t.Fatalf("a header that is none: %t, %v", present, optional)
		}
		if !present && optional == nil {
			if all, _ := io.ReadAll(conn); !bytes.Equal(all, b) {
				t.Fatalf("%q became %q", b, all)
			}
		}
		if err != nil {
			return
		}
		for _, version := range []int{proxyproto.V1, proxyproto.V2} {
			again, err := proxyproto.Read(bytes.NewReader(h.Append(nil, version)))
			if err != nil || again != h {
				t.Fatalf("%+v became %+v, %v", h, again, err)
			}
		}
	})
}
