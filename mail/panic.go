package mail

import (
	"fmt"
	"runtime"
)

// RelayedPanic is what a goroutine panics with that waited for another which
// panicked: the text is as PanicText has it, the stack the other's.
type RelayedPanic struct {
	Text  string
	Stack []byte
}

// PanicText says of a recovered panic what a log may hold. The runtime's own
// errors name indexes, lengths and types, and are told whole. Any other value is
// told by its type alone: its text may be made of what a message or a session
// held, secrets included. The stack, which is logged with it and shows words of
// memory rather than contents, says where it was.
func PanicText(fault any) string {
	switch fault := fault.(type) {
	case runtime.Error:
		return fault.Error()
	case *RelayedPanic:
		return fault.Text + ", in another goroutine:\n" + string(fault.Stack)
	}
	return fmt.Sprintf("a value of type %T, whose text is left out", fault)
}
