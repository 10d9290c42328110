// Package anechoic holds the tests of the project's shape (arch_test.go). The
// program is cmd/anechoic; docs/ and the README say how to use it.
package anechoic
