package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/chat"
)

const sqlNotice = `select version, language, text from chat.notice where organisation_id = $1 and audience = $2
	and version = (select max(version) from chat.notice where organisation_id = $1 and audience = $2 and published_at is not null)`

// Notice gives the notice in force for an audience.
func (s *Store) Notice(ctx context.Context, organisation uuid.UUID, audience chat.Audience) (chat.Notice, error) {
	n := chat.Notice{Audience: audience, Texts: make(map[string]string)}
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlNotice, organisation, string(audience)).Query(func(rows pgx.Rows) error {
			var language, text string
			_, err := pgx.ForEachRow(rows, []any{&n.Version, &language, &text}, func() error {
				n.Texts[language] = text
				return nil
			})
			return err
		})
	})
	if err != nil {
		return chat.Notice{}, fmt.Errorf("load notice: %w", err)
	}
	if n.Version == 0 {
		return chat.BuiltIn(audience), nil
	}
	return n, nil
}

// Edition is a version of a notice with how far it came.
type Edition struct {
	chat.Notice
	Published time.Time // zero while it is a draft; that of version 1 is the product's
	Accepted  map[string]int64
}

const (
	sqlEditions = `select version, language, text, coalesce(published_at, 'epoch') from chat.notice where organisation_id = $1 and audience = $2`
	sqlAccepted = `select version, language, count(*) from chat.acceptance where organisation_id = $1 and audience = $2 group by 1, 2`
)

// Editions lists all versions of a notice, the newest first, with how many accepted each in which language.
func (s *Store) Editions(ctx context.Context, organisation uuid.UUID, audience chat.Audience) ([]Edition, error) {
	all := map[int]*Edition{1: {Notice: chat.BuiltIn(audience), Accepted: make(map[string]int64)}}
	last := 1
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlEditions, organisation, string(audience)).Query(func(rows pgx.Rows) error {
			var version int
			var language, text string
			var published time.Time
			_, err := pgx.ForEachRow(rows, []any{&version, &language, &text, &published}, func() error {
				if all[version] == nil {
					all[version] = &Edition{Notice: chat.Notice{Audience: audience, Version: version, Texts: make(map[string]string)}, Accepted: make(map[string]int64)}
				}
				all[version].Texts[language], last = text, max(last, version)
				if published.Unix() != 0 {
					all[version].Published = published
				}
				return nil
			})
			return err
		})
		b.Queue(sqlAccepted, organisation, string(audience)).Query(func(rows pgx.Rows) error {
			var version int
			var language string
			var n int64
			_, err := pgx.ForEachRow(rows, []any{&version, &language, &n}, func() error {
				if all[version] != nil {
					all[version].Accepted[language] = n
				}
				return nil
			})
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list notices: %w", err)
	}
	var out []Edition
	for v := last; v > 0; v-- {
		if all[v] != nil {
			out = append(out, *all[v])
		}
	}
	return out, nil
}

const (
	sqlNextNotice = `select coalesce(max(version), 1) + 1 from chat.notice where organisation_id = $1 and audience = $2 and published_at is not null`
	sqlPutNotice  = `insert into chat.notice (organisation_id, audience, version, language, text) values ($1, $2, $3, $4, $5)
		on conflict (organisation_id, audience, version, language) do update set text = excluded.text`
	sqlPublish = `update chat.notice set published_at = now() where organisation_id = $1 and audience = $2 and version = $3 and published_at is null`
)

// Draft keeps the texts of the next version of a notice, in place of an earlier draft.
func (s *Store) Draft(ctx context.Context, organisation uuid.UUID, n chat.Notice) (version int, err error) {
	err = s.transaction(ctx, organisation, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, sqlNextNotice, organisation, string(n.Audience)).Scan(&version); err != nil {
			return err
		}
		for _, language := range chat.Languages() {
			if _, err := tx.Exec(ctx, sqlPutNotice, organisation, string(n.Audience), version, language, n.Texts[language]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("draft notice: %w", err)
	}
	return version, nil
}

// ErrNoDraft means that there is no draft of this version in every language.
var ErrNoDraft = errors.New("there is no draft of this version")

// Publish puts a draft in force, for good.
func (s *Store) Publish(ctx context.Context, organisation uuid.UUID, audience chat.Audience, version int) error {
	err := s.transaction(ctx, organisation, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlPublish, organisation, string(audience), version)
		if err == nil && tag.RowsAffected() != int64(len(chat.Languages())) {
			return ErrNoDraft
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("publish notice: %w", err)
	}
	return nil
}

const (
	sqlAccept = `insert into chat.acceptance (organisation_id, audience, person_ref, version, language) values ($1, $2, $3, $4, $5) on conflict do nothing`
	sqlHas    = `select exists (select from chat.acceptance where organisation_id = $1 and audience = $2 and person_ref = $3 and version = $4)`
)

// Accepted notes that somebody accepted a version.
func (s *Store) Accepted(ctx context.Context, organisation uuid.UUID, audience chat.Audience, person string, version int, language string) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) { b.Queue(sqlAccept, organisation, string(audience), person, version, language) })
	if err != nil {
		return fmt.Errorf("note acceptance: %w", err)
	}
	return nil
}

// HasAccepted tells whether somebody accepted a version.
func (s *Store) HasAccepted(ctx context.Context, organisation uuid.UUID, audience chat.Audience, person string, version int) (yes bool, err error) {
	err = s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlHas, organisation, string(audience), person, version).QueryRow(func(row pgx.Row) error { return row.Scan(&yes) })
	})
	if err != nil {
		return false, fmt.Errorf("look for acceptance: %w", err)
	}
	return yes, nil
}
