package document

import "testing"

func TestPathsStartFromTheirFolderOrFromTheCredentials(t *testing.T) {
	for _, c := range []struct{ credentials, path, want string }{
		{"", "", ""},
		{"", "keys/a.pem", "/etc/anechoic/keys/a.pem"},
		{"", "/srv/a.pem", "/srv/a.pem"},
		{"/run/credentials/other", "${CREDENTIALS_DIRECTORY}/a.pem", "/run/credentials/other/a.pem"},
		{"", "${CREDENTIALS_DIRECTORY}/a.pem", "/run/credentials/anechoic.service/a.pem"},
		{"/run/c", "x/${CREDENTIALS_DIRECTORY}/a.pem", "/etc/anechoic/x/${CREDENTIALS_DIRECTORY}/a.pem"},
		{"/run/c", "${HOME}/a.pem", "/etc/anechoic/${HOME}/a.pem"},
	} {
		t.Setenv("CREDENTIALS_DIRECTORY", c.credentials)
		if got := Path("/etc/anechoic", c.path); got != c.want {
			t.Errorf("%q with %q is %q, want %q", c.path, c.credentials, got, c.want)
		}
	}
}
