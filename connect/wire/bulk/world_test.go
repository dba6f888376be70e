package bulk_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

// pair is two ends of one connection; network is "tcp", "unix" or "pipe".
func pair(tb testing.TB, network string) (ours, theirs net.Conn) {
	tb.Helper()
	if network == "pipe" {
		ours, theirs = net.Pipe()
	} else {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = tb.TempDir() + "/s"
		}
		l, err := net.Listen(network, address)
		if err != nil {
			tb.Fatal(err)
		}
		defer l.Close()
		if theirs, err = net.Dial(network, l.Addr().String()); err != nil {
			tb.Fatal(err)
		}
		if ours, err = l.Accept(); err != nil {
			tb.Fatal(err)
		}
	}
	for _, conn := range []net.Conn{ours, theirs} {
		tb.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			tb.Fatal(err)
		}
	}
	return ours, theirs
}

// configs are those of a server and of a client that trusts everybody.
func configs(tb testing.TB, version uint16) (server, client *tls.Config) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	server = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   version, MaxVersion: version,
	}
	return server, &tls.Config{InsecureSkipVerify: true, ServerName: "x", MinVersion: version, MaxVersion: version}
}
