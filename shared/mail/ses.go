package mail

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"orgservice/shared/awsapi"
)

// sesSender sends by Amazon SES. It needs the privilege ses:SendRawEmail, because it
// sends the message that a server of SMTP gets, byte for byte
// (https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html).
type sesSender struct{ client awsapi.Client }

type sesRequest struct {
	Destination struct{ ToAddresses []string }
	Content     struct{ Raw struct{ Data []byte } }
}

func (s *sesSender) send(ctx context.Context, message *gomail.Msg) error {
	var raw bytes.Buffer
	if _, err := message.WriteTo(&raw); err != nil {
		return err
	}
	var request sesRequest
	request.Content.Raw.Data = raw.Bytes()
	for _, to := range message.GetTo() {
		request.Destination.ToAddresses = append(request.Destination.ToAddresses, to.Address)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	var answer struct{ MessageId string }
	err = s.client.Post(ctx, "/v2/email/outbound-emails", http.Header{"Content-Type": {"application/json"}}, body, &answer)
	return sesError(err)
}

// sesError returns an error without the words of the service, but for those that say
// which addresses are not verified.
func sesError(err error) error {
	e, ok := errors.AsType[*awsapi.Error](err)
	if !ok {
		return err
	}
	if strings.HasPrefix(e.Message, "Email address is not verified") { // it goes on with the addresses
		return errors.New("SES refuses it: an email address is not verified, the sender's or, in the sandbox, the recipient's")
	}
	return fmt.Errorf("SES refuses it: %w", e)
}
