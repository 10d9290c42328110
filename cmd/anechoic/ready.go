package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
)

// readyPause is between two questions of ready --wait.
const readyPause = 200 * time.Millisecond

func (sh *shell) readyCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "ready",
		Short: "Say whether the running relay takes mail, for scripts",
		Long: `Say whether the running relay takes mail: it runs, its ports are bound, its store
has not failed and has room, and it is not stopping. The same is asked by a health
check with /readyz, here without a port.

Exits with 0 if it takes mail, with 1 if it does not; --wait asks until it does, or
the time is over.`,
		Example: `  anechoic ready
  anechoic ready --wait 30s
  anechoic ready --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.ready(c.Context(), wait) },
	}
	c.Flags().DurationVar(&wait, "wait", 0, "ask until it does, for at most this `time`")
	return c
}

func (sh *shell) ready(ctx context.Context, wait time.Duration) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	until := time.Now().Add(wait)
	for {
		standing, err := askReady(ctx, client)
		if err == nil && standing.Ready || !time.Now().Before(until) {
			return sh.tellReady(standing, err)
		}
		time.Sleep(readyPause)
	}
}

func askReady(ctx context.Context, client *api.Client) (api.Readiness, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return client.Ready(ctx)
}

// tellReady prints the answer; every other one than yes is an error, with 1: what
// runs containers knows no other code.
func (sh *shell) tellReady(standing api.Readiness, err error) error {
	if err != nil {
		return fmt.Errorf("not ready: %s", err) // not wrapped: a timeout is a no as well
	}
	if sh.asJSON {
		if err := sh.printJSON(standing); err != nil {
			return err
		}
	} else if standing.Ready {
		sh.printf("ready\n")
	}
	if standing.Ready {
		return nil
	}
	why := []string{}
	if standing.Draining {
		why = append(why, "it stops")
	}
	for _, failed := range standing.Failed {
		why = append(why, failed.Check+": "+failed.Error)
	}
	return errors.New("not ready: " + strings.Join(why, "; "))
}
