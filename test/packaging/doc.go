// Package packaging tests how the relay is installed and run: the systemd units and
// what the program says to a supervisor, the Debian package, the container file.
//
// The program is the real one, with the test in the supervisor's place. Units are
// checked by systemd's own tools. The package is built, installed, upgraded, removed
// and purged on the machine itself, if that is allowed (ANECHOIC_INSTALL=1 and root).
// The container file is read, as far as that goes without a container engine.
//
// It is not for systemd as process 1, nor for a real container engine: neither is
// where the tests run.
package packaging
