//go:build libcrypto && linux

package signing

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// libcrypto chooses by what the processor has which of its several ways to multiply it
// takes, and takes the one with ADX before the one with AVX2. On AMD's processors of
// family 25 without AVX512-IFMA (Zen 3) that is the slower one: with AVX2 a signature
// of RSA-2048 takes a seventh to a fifth less (`openssl speed rsa2048`, OpenSSL 3.0.19, on one and on
// both threads of a core). So there it is told that ADX is not there, by the variable that
// it has for this, which it reads once, when it is loaded. Whoever set that variable
// is left with what it says.
const (
	processorVariable = "OPENSSL_ia32cap" // OPENSSL_ia32cap(3)
	withoutADX        = ":~0x80000"       // bit 19 of EBX of CPUID's leaf 7, which the second word begins with
	processorFile     = "/proc/cpuinfo"   // proc(5)
)

// chooseMultiplication is called before libcrypto is loaded. It sets the variable where C
// reads it, which Go's os.Setenv does not without cgo. What it cannot do leaves
// libcrypto's own choice.
func chooseMultiplication() {
	if _, set := os.LookupEnv(processorVariable); set {
		return
	}
	info, err := os.ReadFile(processorFile)
	if err != nil || !slowADX(string(info)) {
		return
	}
	if setenv, err := purego.Dlsym(purego.RTLD_DEFAULT, "setenv"); err == nil {
		name, value := []byte(processorVariable+"\x00"), []byte(withoutADX+"\x00") // C copies both
		purego.SyscallN(setenv, addressOf(name), addressOf(value), 0)
		runtime.KeepAlive(name)
		runtime.KeepAlive(value)
	}
}

// slowADX says that the first processor of /proc/cpuinfo multiplies faster with AVX2
// than with ADX.
func slowADX(info string) bool {
	first, _, _ := strings.Cut(info, "\n\n")
	fields := map[string]string{}
	for line := range strings.Lines(first) {
		name, value, _ := strings.Cut(line, ":")
		fields[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	can := strings.Fields(fields["flags"])
	return fields["vendor_id"] == "AuthenticAMD" && fields["cpu family"] == "25" &&
		slices.Contains(can, "avx2") && slices.Contains(can, "adx") && !slices.Contains(can, "avx512ifma")
}

// addressOf is where a text for C begins. The caller keeps it alive.
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
