package memory_test

import (
	"testing"

	"anechoic/engine/enginetest"
	"anechoic/engine/memory"
)

func TestMemoryKeepsThePromisesOfAnEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) (enginetest.Engine, func() enginetest.Engine) {
		e := memory.New()
		return e, func() enginetest.Engine { e = e.Reopen(); return e }
	})
}
