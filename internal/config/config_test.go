package config_test

import (
	"strings"
	"testing"

	"counterfoil/internal/config"
)

const witness = "COUNTERFOIL_WITNESS_URL=https://witness.example\nCOUNTERFOIL_WITNESS_KEY=witness.example+00000000+AA=="

const bucket = "COUNTERFOIL_PUBLISH_BUCKET=logs\nCOUNTERFOIL_PUBLISH_BUCKET_CREDENTIALS_FILE=/x"

func TestLoad(t *testing.T) {
	for _, tt := range []struct {
		name, env, wrong string
	}{
		{"takes nothing", "", ""},
		{"passes over other names", "HOME=/x", ""},
		{"refuses an unknown name", "COUNTERFOIL_AUDIT=off", "COUNTERFOIL_AUDIT is not a setting"},
		{"refuses plain http off loopback", "COUNTERFOIL_PUBLIC_URL=http://chat.example.com", "COUNTERFOIL_PUBLIC_URL must be https"},
		{"takes https", "COUNTERFOIL_PUBLIC_URL=https://chat.example.com", ""},
		{"refuses a path in the public URL", "COUNTERFOIL_PUBLIC_URL=https://chat.example.com/x", "COUNTERFOIL_PUBLIC_URL must be a scheme"},
		{"refuses to trust everybody", "COUNTERFOIL_TRUSTED_PROXIES=0.0.0.0/0", "must not trust every address"},
		{"refuses a proxy that is no range", "COUNTERFOIL_TRUSTED_PROXIES=*", "must be a list of address ranges"},
		{"takes proxies", "COUNTERFOIL_TRUSTED_PROXIES=10.0.0.0/8, fd00::/8", ""},
		{"refuses an address without a port", "COUNTERFOIL_PUBLIC_ADDR=127.0.0.1", "must be HOST:PORT"},
		{"refuses a bot without a secret", "COUNTERFOIL_BOT_APP_ID=x", "COUNTERFOIL_BOT_SECRET_FILE is needed"},
		{"refuses other addresses for a named cloud", "COUNTERFOIL_BOT_ISSUER=x", "COUNTERFOIL_BOT_CLOUD must be custom"},
		{"takes a witness", witness, ""},
		{"takes a witness on loopback", strings.Replace(witness, "https://witness.example", "http://127.0.0.1:7380", 1), ""},
		{"takes a witness that is required", witness + "\nCOUNTERFOIL_WITNESS_POLICY=require\nCOUNTERFOIL_WITNESS_MAX_AGE=1m", ""},
		{"refuses a witness over plain http", strings.Replace(witness, "https", "http", 1), "COUNTERFOIL_WITNESS_URL must be an https address"},
		{"refuses a password for a witness", strings.Replace(witness, "https://", "https://u:secret-word@", 1), "COUNTERFOIL_WITNESS_URL must be"},
		{"refuses a witness without a key", "COUNTERFOIL_WITNESS_URL=https://witness.example", "belong together"},
		{"refuses a key without a witness", "COUNTERFOIL_WITNESS_KEY=x", "belong together"},
		{"refuses a witness that is not to count", witness + "\nCOUNTERFOIL_WITNESS_POLICY=none", "COUNTERFOIL_WITNESS_POLICY must be none without"},
		{"refuses to require a witness that is not there", "COUNTERFOIL_WITNESS_POLICY=require", "COUNTERFOIL_WITNESS_POLICY must be none without"},
		{"refuses another policy", witness + "\nCOUNTERFOIL_WITNESS_POLICY=maybe", "must be none, warn or require"},
		{"refuses to publish all the time", "COUNTERFOIL_PUBLISH_INTERVAL=1ms", "COUNTERFOIL_PUBLISH_INTERVAL must be a duration from 100ms to 1h0m0s"},
		{"refuses what is no duration", "COUNTERFOIL_PUBLISH_INTERVAL=often", "COUNTERFOIL_PUBLISH_INTERVAL must be a duration"},
		{"takes a mail server", "COUNTERFOIL_SMTP_ADDR=mail.example.com:587\nCOUNTERFOIL_SMTP_FROM=alerts@example.com", ""},
		{"refuses a mail server without a port", "COUNTERFOIL_SMTP_ADDR=mail.example.com\nCOUNTERFOIL_SMTP_FROM=alerts@example.com", "COUNTERFOIL_SMTP_ADDR must be HOST:PORT"},
		{"refuses a mail server without a sender", "COUNTERFOIL_SMTP_ADDR=mail.example.com:587", "COUNTERFOIL_SMTP_FROM and COUNTERFOIL_SMTP_ADDR belong together"},
		{"refuses a user of a mail server without a password", "COUNTERFOIL_SMTP_ADDR=mail.example.com:587\nCOUNTERFOIL_SMTP_FROM=a@example.com\nCOUNTERFOIL_SMTP_USERNAME=x", "need each other"},
		{"takes a bucket", bucket, ""},
		{"takes a bucket on loopback", bucket + "\nCOUNTERFOIL_PUBLISH_BUCKET_ENDPOINT=http://127.0.0.1:9000\nCOUNTERFOIL_PUBLISH_BUCKET_LOCK=governance", ""},
		{"refuses a bucket over plain http", bucket + "\nCOUNTERFOIL_PUBLISH_BUCKET_ENDPOINT=http://s3.example", "COUNTERFOIL_PUBLISH_BUCKET_ENDPOINT must be https"},
		{"refuses a bucket without credentials", "COUNTERFOIL_PUBLISH_BUCKET=x", "need each other"},
		{"refuses a bucket without a lock", bucket + "\nCOUNTERFOIL_PUBLISH_BUCKET_LOCK=none", "COUNTERFOIL_PUBLISH_BUCKET_LOCK must be"},
		{"refuses a policy that nothing verifies", "COUNTERFOIL_POLICY_BUNDLE=/x", "COUNTERFOIL_POLICY_BUNDLE and COUNTERFOIL_POLICY_KEY need each other"},
		{"refuses a key that verifies no policy", "COUNTERFOIL_POLICY_KEY=/x", "COUNTERFOIL_POLICY_BUNDLE and COUNTERFOIL_POLICY_KEY need each other"},
		{"takes a policy with its key", "COUNTERFOIL_POLICY_BUNDLE=/x\nCOUNTERFOIL_POLICY_KEY=/y", ""},
		{"takes a candidate with its key", "COUNTERFOIL_POLICY_CANDIDATE=/x\nCOUNTERFOIL_POLICY_KEY=/y", ""},
		{"refuses another kind of key URI", "COUNTERFOIL_KEK_URI=http://x", "COUNTERFOIL_KEK_URI must be file:PATH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := config.Load(strings.Split(tt.env, "\n"))
			switch {
			case tt.wrong == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
				t.Errorf("got %v, want %q", err, tt.wrong)
			}
		})
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	_, shown, err := config.Load([]string{
		"COUNTERFOIL_DATABASE_URL=postgres://u:secret-word@h/d", "COUNTERFOIL_RETENTION_URL=postgres://u:secret-word@h/d", "COUNTERFOIL_NATS_URL=nats://u:secret-word@h",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shown {
		if strings.Contains(s.Value, "secret-word") {
			t.Errorf("%s shows its secret", s.Name)
		}
	}
}
