// Package breach looks passwords up among those that are known from breaches.
package breach

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"
)

// Corpus is a collection of passwords from breaches that answers as the one of Have I Been
// Pwned does: to the first five digits of a SHA-1 sum with the rest of all that it has. So it
// does not get to know the password (k-anonymity).
// https://haveibeenpwned.com/API/v3#SearchingPwnedPasswordsByRange
type Corpus struct {
	URL string // what the five digits follow, such as https://api.pwnedpasswords.com/range/
}

const (
	timeLimit = time.Second
	maxBytes  = 1 << 20
)

// client follows no redirect, which might leave HTTPS.
var client = &http.Client{
	Timeout:       timeLimit,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Contains reports whether the password, in NFC, is in the corpus. It takes at most a second.
func (c Corpus) Contains(ctx context.Context, password string) (bool, error) {
	found, err := c.contains(ctx, password)
	if err != nil {
		return false, fmt.Errorf("look up a password in the corpus of breaches: %w", err)
	}
	return found, nil
}

func (c Corpus) contains(ctx context.Context, password string) (bool, error) {
	sum := sha1.Sum([]byte(norm.NFC.String(password)))
	digits := strings.ToUpper(hex.EncodeToString(sum[:]))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+digits[:5], nil)
	if err != nil { // it has the URL, and so the digits
		return false, errors.New("the URL of the corpus can't be read")
	}
	request.Header.Set("Add-Padding", "true") // or the length of the answer tells something
	response, err := client.Do(request)
	if err != nil {
		return false, cause(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return false, errors.New(response.Status)
	}
	lines := bufio.NewScanner(io.LimitReader(response.Body, maxBytes))
	for lines.Scan() {
		rest, count, _ := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		if strings.EqualFold(rest, digits[5:]) {
			return count != "0", nil // padding has 0
		}
	}
	return false, lines.Err()
}

// cause returns what is known of an error of the client that can't hold the URL, and so the
// digits.
func cause(err error) error {
	var network *net.OpError
	switch e, _ := errors.AsType[*url.Error](err); {
	case e != nil && e.Timeout():
		return errors.New("there is no answer in time")
	case errors.As(err, &network):
		return network
	}
	return errors.New("there is no answer in HTTP")
}
