package org

import (
	"context"
	"errors"
	"time"

	"orgservice/shared/auth"
)

// SignUps says who may create organizations. Its zero value lets everybody.
type SignUps struct {
	Closed            bool  // nobody may
	Verified          bool  // only whoever gets the mails to the email
	PerHour           int64 // how many each client and each admin may; 0: any number
	MostOrganizations int64 // how many there may be; 0: any number
}

var (
	errSignUpClosed = refuse(Forbidden, SignUpClosed, "new organizations can't sign up")
	errNoMorePlace  = refuse(Forbidden, TooManyOrganizations, "there are as many organizations as there may be")
)

// admitSignUp counts a sign-up of each client or admin, unless it is not known who it is, and
// refuses it if it is one too many of any. Sign-ups at the same moment may exceed the number of
// organizations by as many. Its errors are ErrForbidden, ErrThrottled and ErrUnavailable.
func (s *Service) admitSignUp(ctx context.Context, clients ...string) error {
	if s.SignUps.Closed {
		return errSignUpClosed
	}
	return concurrently(
		func() error {
			for _, client := range clients {
				if s.SignUps.PerHour == 0 || client == "" {
					continue
				}
				err := s.countWithin(ctx, limit{"sign-up", s.SignUps.PerHour, time.Hour}, client, TooManySignUps, "too many organizations were asked for")
				if err != nil {
					return err
				}
			}
			return nil
		},
		func() error { return s.admitOrganization(ctx) },
	)
}

// admitOrganization refuses one more organization if there are as many as there may be. Its
// errors are ErrForbidden and ErrUnavailable.
func (s *Service) admitOrganization(ctx context.Context) error {
	if s.SignUps.MostOrganizations == 0 {
		return nil
	}
	n, err := s.Store.CountOrganizations(ctx)
	if err == nil && n >= s.SignUps.MostOrganizations {
		err = errNoMorePlace
	}
	return err
}

// Create signs up an organization and its first admin, and mails the admin a ticket to
// verify the email. Where emails must be proved first, it only mails a ticket for [Service.Accept],
// which does not keep the password of the request, and the result has no id. Its errors are
// ErrInvalid, ErrForbidden and ErrThrottled as SignUps says, ErrConflict when name or email
// is taken, and ErrUnavailable.
func (s *Service) Create(ctx context.Context, r CreateRequest) (Organization, error) {
	name, email, fields := r.parse()
	if err := invalid(fields); err != nil {
		return Organization{}, err
	}
	err := s.admitSignUp(ctx, addressPrefix(r.ClientAddress))
	if err == nil {
		err = s.checkNewPassword(ctx, r.Password, email, name.Display, name.Slug)
	}
	if err == nil && !s.SignUps.Verified {
		err = s.checkOlderForms(ctx, r.Email, email)
	}
	if err != nil {
		return Organization{}, err
	}
	if s.SignUps.Verified {
		return Organization{}, s.askByMail(ctx, name, email, r.ClientAddress)
	}
	admin := s.newAdmin(ctx, email)
	var v verification
	created, err := s.createFirst(ctx, name, &admin, r.Password, r.ClientAddress, func() (err error) {
		v, err = s.newVerificationUnlessTooMany(ctx, admin.ID, email, func() error {
			return s.countVerification(ctx, r.ClientAddress, "", email)
		})
		return err
	})
	s.mailVerification(ctx, v, err)
	return created, err
}

// checkOlderForms returns ErrConflict if there is an account with the email, which is the form of
// what was given, in a form of an older version.
func (s *Service) checkOlderForms(ctx context.Context, given, email string) error {
	stored, err := s.storedEmail(ctx, given)
	if err == nil && stored != email {
		taken, _ := takenErrors(emailClaim(email))
		err = taken
	}
	return err
}

// createFirst creates the first organization of a new admin, who gets the password. It calls also
// at the same time as it hashes that.
func (s *Service) createFirst(ctx context.Context, name Name, admin *Admin, password, clientAddress string, also func() error) (Organization, error) {
	o, err := s.newOrganization(ctx, name, admin.ID, admin.CreatedAt)
	if err != nil {
		return Organization{}, err
	}
	admin.OrganizationID, admin.Organizations = o.ID, []string{o.ID}
	prepare := func() error {
		return concurrently(
			func() (err error) { admin.PasswordHash, err = s.Passwords.Hash(password); return err },
			func() error { s.unlock(ctx, admin.Email); return nil },
			also,
		)
	}
	created, err := s.create(ctx, o, []Claim{admin.newClaim()}, prepare, func() error { return s.Store.InsertAdmin(ctx, *admin) })
	if err == nil {
		s.log().InfoContext(ctx, "signed up", "admin_id", admin.ID, "organization_id", o.ID, "source_ip", clientAddress)
	}
	return created, err
}

// newAdmin returns the record of a new admin, who has no organization and no password.
func (s *Service) newAdmin(ctx context.Context, email string) Admin {
	now, id := s.now(), tryOf(ctx).AdminID
	if id == "" {
		id = s.Store.NewID()
	}
	return Admin{ID: id, Email: email, TokenVersion: 1, Revision: 1, CreatedAt: now, UpdatedAt: now}
}

// newClaim returns the claim that a new admin needs.
func (a *Admin) newClaim() Claim {
	return Claim{ID: emailClaim(a.Email), Owner: a.owner(), ClaimedAt: a.CreatedAt}
}

// CreateOrganizationRequest is the body of the creation of one more organization.
type CreateOrganizationRequest struct {
	OrganizationName string `json:"organization_name"`

	// ClientAddress is the IP address of the client; empty if it is not known.
	ClientAddress string `json:"-"`
}

// Validate returns what is wrong, field by field.
func (r CreateOrganizationRequest) Validate() []FieldError {
	_, fields := r.parse()
	return fields
}

func (r CreateOrganizationRequest) parse() (Name, []FieldError) {
	var fields fieldErrors
	name, err := parseNewName(r.OrganizationName)
	fields.add("organization_name", err)
	return name, fields
}

// parseNameField parses the field organization_name of a request.
func parseNameField(s string) (Name, []FieldError) {
	var fields fieldErrors
	name, err := ParseName(s)
	fields.add("organization_name", err)
	return name, fields
}

// CreateOrganization creates one more organization, of which the caller is the owner.
// Its errors are those of Create, and ErrUnauthenticated.
func (s *Service) CreateOrganization(ctx context.Context, caller auth.Caller, r CreateOrganizationRequest) (Organization, error) {
	name, fields := r.parse()
	if err := invalid(fields); err != nil {
		return Organization{}, err
	}
	current, admin, err := s.authorize(ctx, caller)
	if err == nil && s.SignUps.Verified && !admin.Verified() {
		err = errUnverified
	}
	if err != nil {
		return Organization{}, err
	}
	if err := s.admitSignUp(ctx, admin.ID, addressPrefix(r.ClientAddress)); err != nil {
		return Organization{}, err
	}
	if _, err := s.adopt(ctx, current, admin); err != nil {
		return Organization{}, err
	}
	return s.createMore(ctx, name, admin)
}

// createMore creates one more organization of the admin.
func (s *Service) createMore(ctx context.Context, name Name, admin Admin) (Organization, error) {
	o, err := s.newOrganization(ctx, name, admin.ID, s.now())
	if err != nil {
		return Organization{}, err
	}
	return s.create(ctx, o, nil, func() error { return nil }, func() error { return s.join(ctx, admin, o.ID) })
}

// newOrganization returns the record of an organization whose creation begins.
func (s *Service) newOrganization(ctx context.Context, name Name, adminID string, now time.Time) (Organization, error) {
	id := tryOf(ctx).OrganizationID
	if id == "" {
		id = s.Store.NewID()
	}
	op, err := s.newOperation(ctx, Creating)
	return Organization{
		ID:         id,
		Name:       name.Display,
		Collection: name.Collection(),
		Database:   s.Database,
		Status:     Provisioning,
		Admins:     []Member{{AdminID: adminID, Role: RoleOwner, Since: now}},
		Claims:     []string{name.Collection()},
		Revision:   1,
		Operation:  &op,
		CreatedAt:  now,
		UpdatedAt:  now,
	}, err
}

// create creates the organization o. It needs the claim on the name, and those of
// its admin. It calls prepare when they are won, because hashing is expensive, and
// addAdmin when the record is there.
func (s *Service) create(ctx context.Context, o Organization, claims []Claim, prepare, addAdmin func() error) (Organization, error) {
	claims = append([]Claim{{ID: o.Collection, Owner: Owner{OrganizationID: o.ID}, ClaimedAt: o.CreatedAt}}, claims...)
	err := s.claim(ctx, claims)
	if err == nil {
		err = prepare()
	}
	created := o
	if err == nil {
		created, err = s.provision(ctx, o, addAdmin)
	}
	if err != nil {
		return s.afterFailure(ctx, o, *o.Operation, err)
	}
	return created, nil
}

// provision carries out the creation of o, which is the record before the commit.
func (s *Service) provision(ctx context.Context, o Organization, addAdmin func() error) (Organization, error) {
	c := Collection{Name: temporaryName(o.Operation)}
	err := concurrently(
		func() error { return s.Store.InsertOrganization(ctx, o) },
		func() error { return s.Store.CreateCollection(ctx, o.Database, c.Name) },
	)
	if err != nil {
		return o, err
	}
	err = concurrently(
		addAdmin,
		func() (err error) { c, err = s.findCollection(ctx, o.Database, c.Name); return err },
	)
	if err != nil {
		return o, err
	}
	// Until the record was there, others could take over the claims of this
	// operation without a write that stops it.
	if err := s.checkLease(o.Operation); err != nil {
		return o, err
	}
	err = s.Store.RenameCollection(ctx, o.Database, c, o.Collection)
	if errors.Is(err, ErrConflict) {
		// The claim is this organization's, so the collection is a stray.
		if err = s.clearName(ctx, o, o.Collection); err == nil {
			err = s.Store.RenameCollection(ctx, o.Database, c, o.Collection)
		}
	}
	if errors.Is(err, ErrConflict) {
		return o, errNameUnusable // somebody makes the stray again and again
	}
	if errors.Is(err, ErrNotFound) {
		return o, errOvertaken
	}
	if err != nil {
		return o, err
	}
	next := o
	next.Status, next.CollectionUUID = Active, c.UUID
	return s.commit(ctx, o, next)
}
