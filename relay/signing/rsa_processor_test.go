//go:build libcrypto && linux

package signing

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ebitengine/purego"
)

// TestADXIsLeftOutOnlyWhereItIsSlower: on no other processor is libcrypto told anything.
func TestADXIsLeftOutOnlyWhereItIsSlower(t *testing.T) {
	cpu := func(vendor, family, flags string) string {
		return "processor\t: 0\nvendor_id\t: " + vendor + "\ncpu family\t: " + family + "\nmodel name\t: A: B\nflags\t\t: fpu " + flags + " sse\n\n"
	}
	zen3 := cpu("AuthenticAMD", "25", "avx2 bmi2 adx vaes")
	for name, c := range map[string]struct {
		info string
		want bool
	}{
		"Zen 3":                       {zen3, true},
		"the second has other flags":  {zen3 + cpu("AuthenticAMD", "25", ""), true},
		"the first has other flags":   {cpu("GenuineIntel", "6", "avx2 adx") + zen3, false},
		"with IFMA":                   {cpu("AuthenticAMD", "25", "avx2 adx avx512ifma"), false},
		"without ADX":                 {cpu("AuthenticAMD", "25", "avx2"), false},
		"without AVX2":                {cpu("AuthenticAMD", "25", "adx"), false},
		"a family that is not known":  {cpu("AuthenticAMD", "26", "avx2 adx"), false},
		"another maker":               {cpu("GenuineIntel", "25", "avx2 adx"), false},
		"no x86":                      {"processor\t: 0\nFeatures\t: fp asimd\n\n", false},
		"nothing":                     {"", false},
		"lines that are none of that": {"::::\n\t\n:avx2\n", false},
	} {
		if got := slowADX(c.info); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestWhoChoseForLibcryptoIsLeftWithIt: the variable is set where C reads it if nobody set it, as
// this processor wants it, and as it was if somebody did. A program of its own looks, since it is set
// for good.
func TestWhoChoseForLibcryptoIsLeftWithIt(t *testing.T) {
	const asked = "ANECHOIC_TEST_PROCESSOR"
	if os.Getenv(asked) != "" {
		chooseMultiplication()
		getenv, err := purego.Dlsym(purego.RTLD_DEFAULT, "getenv")
		if err != nil {
			t.Fatal(err)
		}
		name := []byte(processorVariable + "\x00")
		if at, _, _ := purego.SyscallN(getenv, addressOf(name)); at != 0 {
			t.Logf("set to <%s>", cString(at, maxLibcryptoName))
		}
		return
	}
	info, err := os.ReadFile(processorFile)
	if err != nil {
		t.Fatal(err)
	}
	mine := ""
	if slowADX(string(info)) {
		mine = "set to <" + withoutADX + ">"
	}
	for env, want := range map[string]string{"": mine, processorVariable + "=~0x1": "set to <~0x1>"} {
		c := exec.Command(os.Args[0], "-test.run", "^TestWhoChoseForLibcryptoIsLeftWithIt$", "-test.v", "-test.timeout", "1m")
		c.Env = append(os.Environ(), asked+"=1")
		if env != "" {
			c.Env = append(c.Env, env)
		}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := strings.Contains(string(out), "set to <"); got != (want != "") || !strings.Contains(string(out), want) {
			t.Errorf("with %q: %s, want %q", env, out, want)
		}
	}
}
