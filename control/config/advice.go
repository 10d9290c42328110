package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"
)

// unreadableHint is what to do about a configuration that cannot be read.
func unreadableHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "this user may not read it: run it as the relay's user (sudo -u anechoic) or as root"
	case errors.Is(err, syscall.EISDIR):
		return "it is a folder: name the file in it with --config"
	}
	return "name the file with --config"
}

// certificateHint is what to do about TLS files that cannot be used.
func certificateHint(err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "check the path: it is relative to the folder of this file"
	case errors.Is(err, fs.ErrPermission):
		return "the relay's user has to be able to read it: see to its owner and mode"
	case strings.Contains(text, "private key does not match"):
		return "the two files are of different pairs: openssl x509 -noout -pubkey -in CERTIFICATE and openssl pkey -pubout -in KEY have to print the same"
	case strings.Contains(text, "failed to find"):
		return "PEM files, with -----BEGIN CERTIFICATE----- in one and -----BEGIN … PRIVATE KEY----- in the other; tls_cert is the chain, tls_key the key"
	}
	return "PEM files of a certificate chain and its key, relative to this file"
}

// outOfTime says that a certificate is not valid now; empty if it is.
func outOfTime(pair tls.Certificate, now time.Time) string {
	leaf := pair.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return ""
		}
	}
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Sprintf("the TLS certificate ended on %s", leaf.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		return fmt.Sprintf("the TLS certificate begins on %s only", leaf.NotBefore.UTC().Format(time.DateOnly))
	}
	return ""
}
