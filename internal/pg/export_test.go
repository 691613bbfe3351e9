package pg

import "github.com/jackc/pgx/v5/pgconn"

var SpanName = spanName

func CheckTransport(url string) error {
	c, err := pgconn.ParseConfig(url)
	if err != nil {
		return err
	}
	return checkTransport(c)
}
