package mail

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func recovered(f func()) (fault any) {
	defer func() { fault = recover() }()
	f()
	return nil
}

func TestPanicsAreToldWithoutWhatTheyHold(t *testing.T) {
	const secret = "anx1_secret"
	var none []byte
	var missing map[string]int
	var value any = secret
	for name, test := range map[string]struct {
		f    func()
		want string
	}{
		"an index":         {func() { _ = none[len(secret)] }, "index out of range [11] with length 0"},
		"a nil map":        {func() { missing[secret] = 1 }, "nil map"},
		"a type assertion": {func() { _ = value.(fmt.Stringer) }, "string is not fmt.Stringer"},
		"an unhashable":    {func() { _ = map[any]int{}[[]string{secret}] }, "[]string"},
		"a nil panic":      {func() { panic(nil) }, "nil"},
		"a text":           {func() { panic("careless: " + secret) }, "a value of type string"},
		"an error":         {func() { panic(errors.New(secret)) }, "a value of type *errors.errorString"},
		"a wrapped error":  {func() { panic(fmt.Errorf("%s: %w", secret, recovered(func() { _ = none[1] }).(error))) }, "a value of type *fmt.wrapError"},
		"one of another":   {func() { panic(&RelayedPanic{Text: PanicText(secret), Stack: []byte("main.go:7")}) }, "main.go:7"},
		"octets":           {func() { panic([]byte(secret)) }, "a value of type []uint8"},
	} {
		if got := PanicText(recovered(test.f)); !strings.Contains(got, test.want) || strings.Contains(got, secret) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
