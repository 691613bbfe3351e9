package widget

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"

	"counterfoil/internal/access/euii"
	"go.opentelemetry.io/otel/attribute"
)

type Visitor struct{}

type data struct{ Name string }

func send(data) error { return nil }

func Good(c euii.Cleared[Visitor], l *slog.Logger) error {
	name := euii.Reveal(c)
	if err := send(data{name}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := send(data{euii.Reveal(c)}); err != nil {
		return fmt.Errorf("send name: %w", errors.Join(err, send(data{euii.Reveal(c)})))
	}
	l.Info("sent", "empty", name == "", "length", len(name), "value", c)
	return nil
}

func Bad(ctx context.Context, c euii.Cleared[Visitor], l *slog.Logger) error {
	slog.Info("joined", "name", euii.Reveal(c))            // want `revealed text is given to log/slog.Info: it must not`
	l.InfoContext(ctx, "joined", "name", euii.Reveal(c))   // want `revealed text is given to log/slog.InfoContext`
	l.Warn("joined", slog.String("name", euii.Reveal(c)))  // want `given to log/slog.Warn` `given to log/slog.String`
	log.Print("joined " + strings.ToUpper(euii.Reveal(c))) // want `given to log.Print`
	fmt.Println([]byte(euii.Reveal(c)))                    // want `given to fmt.Println`
	_ = errors.New(euii.Reveal(c))                         // want `given to errors.New`
	_ = attribute.String("name", euii.Reveal(c))           // want `given to go.opentelemetry.io/otel/attribute.String`
	name := euii.Reveal(c)
	greeting := "hello " + name
	var loud = strings.ToUpper(greeting)
	if name == "" {
		panic(greeting) // want `given to panic`
	}
	return fmt.Errorf("send to %s", loud) // want `given to fmt.Errorf`
}
